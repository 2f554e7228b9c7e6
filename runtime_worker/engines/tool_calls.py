"""Running the tools that a model asked for. Nothing a tool or a model does wrong ends a run: it becomes a result."""

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from runtime_worker.engines.telling import Telling
from runtime_worker.engines.toolbox import OfferedTool, Toolbox
from runtime_worker.models.base import ModelToolCall
from runtime_worker.plugins.base import ToolOutcome
from shared.errors import DomainError
from shared.logging import get_logger

log = get_logger(__name__)

GRACE_SECONDS = 1.0
"""A bundle ends its call in time by itself and says it better; this only catches one that does not."""


class ToolRound(msgspec.Struct, frozen=True, kw_only=True):
    """How one round of calls is to be run; each call has `timeout_seconds` of its own.

    `agents` are the plugins (pids) that the round enters under the name of `node`, `refusal` what the calls of others
    are told. Without `agents` it is a round of an agent that was entered already, with all tools of its toolbox.
    """

    calls: Sequence[ModelToolCall]
    toolbox: Toolbox
    in_parallel: bool
    timeout_seconds: float
    node: str = ""
    agents: Collection[str] | None = None
    refusal: str = ""

    async def run(self, telling: Telling) -> list[ToolOutcome]:
        """The outcomes, in the order of the calls."""
        with self.entered(telling):
            if not self.in_parallel:
                return [await self.outcome_of(call, telling) for call in self.calls]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.outcome_of(call, telling)) for call in self.calls]
            return [task.result() for task in tasks]

    @contextmanager
    def entered(self, telling: Telling) -> Iterator[None]:
        """Inside of it the agents of the round have the floor: for a framework that makes the calls itself."""
        with ExitStack() as entered:
            for pid in self.agents or ():
                entered.enter_context(telling.agent(pid, self.node))
            yield

    async def outcome_of(self, call: ModelToolCall, telling: Telling) -> ToolOutcome:
        """Make one call of the round, or say why it is not made."""
        tool = self.toolbox.find(call.name)
        if tool is None:
            return _failed(
                f"there is no tool named {call.name[:100]!r}; the tools are: {', '.join(self.toolbox.names)}"
            )
        if self.agents is not None and tool.bundle.pid not in self.agents:
            return _failed(self.refusal)
        return await call_tool(call, tool, telling, timeout_seconds=self.timeout_seconds)


async def call_tool(call: ModelToolCall, tool: OfferedTool, telling: Telling, *, timeout_seconds: float) -> ToolOutcome:
    """Run one call with its own deadline and tell its start and end."""
    arguments = parse_arguments(call.arguments)
    await telling.sink.recorded()
    with telling.tool(tool.reported, call.id, arguments or {}) as ended:
        started = time.monotonic()
        if arguments is None:
            outcome = _failed("the arguments are not a JSON object")
        else:
            outcome = await _call(tool, arguments, timeout_seconds)
        elapsed_ms = round((time.monotonic() - started) * 1000)
        if outcome.is_error:
            ended(duration_ms=elapsed_ms, error=outcome.content)
        else:
            ended(duration_ms=elapsed_ms, result=outcome.shown)
    return outcome


def with_own_ids(calls: Sequence[ModelToolCall], taken: Collection[str]) -> tuple[ModelToolCall, ...]:
    """The calls with ids that are not `taken`: results and events are found by them, and some models start again at
    `call_0` in every round."""
    used = set(taken)
    own: list[ModelToolCall] = []
    for call in calls:
        call_id, number = call.id, 2
        while not call_id or call_id in used:
            call_id, number = f"{call.id or 'call'}_{number}", number + 1
        used.add(call_id)
        own.append(msgspec.structs.replace(call, id=call_id))
    return tuple(own)


def parse_arguments(text: str) -> dict[str, Any] | None:
    """The arguments of a call, None when they are no JSON object. Models write nothing at all for "no arguments"."""
    if not text.strip():
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


async def _call(tool: OfferedTool, arguments: dict[str, Any], timeout_seconds: float) -> ToolOutcome:
    try:
        async with asyncio.timeout(timeout_seconds + GRACE_SECONDS):
            return await tool.bundle.call(tool.tool.name, arguments, timeout_seconds=timeout_seconds)
    except TimeoutError:
        return _failed(f"the tool took longer than {timeout_seconds:g} seconds")
    except DomainError as error:
        return _failed(error.detail)
    except Exception:  # A plugin's code is behind this call; whatever comes out of it must not end somebody's run.
        log.exception("tool_call_broke", tool=tool.reported)
        return _failed("the tool failed")


def _failed(reason: str) -> ToolOutcome:
    return ToolOutcome(content=f"Error: {reason}", shown=None, is_error=True)
