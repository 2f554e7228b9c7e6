"""What belongs to one run: its request, its events, and the model calls it makes, whichever framework drives it."""

import asyncio
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from runtime_worker.engines.base import ModelCall, RunRequest
from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.modes.decisions import Question
from runtime_worker.engines.modes.history import spoken, well_formed
from runtime_worker.engines.telling import Telling
from runtime_worker.engines.tool_calls import ToolRound
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.models.base import AnsweredBy, DeltaSink, ModelAnswer, ModelMessage, ModelRequest, Usage
from runtime_worker.plugins.base import ToolOutcome
from shared.errors import ModelProtocolError
from shared.logging import get_logger
from shared.snapshots import OrchestratorSnapshot

log = get_logger(__name__)

MAX_REPEATED_CHARS = 4_000
"""Of an answer that could not be read, when its model is asked to repair it."""
PARAGRAPH = "\n\n"


class ModePolicy(Protocol):
    """What the policies of all modes have. Instances of one `shape` can share one compiled graph."""

    @property
    def shape(self) -> Hashable: ...

    @property
    def max_steps(self) -> int:
        """An upper bound of visited nodes."""
        ...


class Instance(Protocol):
    """What every mode's instance has."""

    @property
    def policy(self) -> ModePolicy: ...

    @property
    def snapshot(self) -> OrchestratorSnapshot: ...

    @property
    def nodes(self) -> Mapping[Any, NodeParts]: ...

    @property
    def agents(self) -> Mapping[str, AgentParts]:
        """The plugin agents by pid, none in a mode whose plugins are no agents of their own."""
        ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def calls_in_parallel(self) -> bool: ...

    @property
    def tool_timeout_seconds(self) -> float: ...


I = TypeVar("I", bound=Instance, covariant=True)  # noqa: E741
T = TypeVar("T")


@dataclass
class RunContext(Generic[I]):
    """All that belongs to one run besides its state; an orchestrator holds nothing of it."""

    instance: I
    request: RunRequest
    telling: Telling

    @property
    def calls(self) -> list[ModelCall]:
        return self.request.calls

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), start=Usage())

    @cached_property
    def history(self) -> list[ModelMessage]:
        """What was said and called before, in the form that providers accept."""
        return well_formed(self.request.history)

    def conversation(self) -> list[ModelMessage]:
        """History and the new message, tool exchanges included."""
        return [*self.history, ModelMessage("user", self.request.message)]

    def spoken(self) -> list[ModelMessage]:
        """The same without tool exchanges."""
        return [*spoken(self.request.history), ModelMessage("user", self.request.message)]

    def seen_by(self, parts: NodeParts) -> list[ModelMessage]:
        """The one of the two that providers accept from a node: tool exchanges go with tools only."""
        return self.conversation() if parts.tools else self.spoken()

    async def ask(
        self,
        parts: NodeParts,
        messages: Sequence[ModelMessage],
        *,
        tool_choice: str | None = None,
        response_schema: dict[str, Any] | None = None,
        timeout_seconds: float | None = None,
        on_delta: DeltaSink | None = None,
    ) -> ModelAnswer:
        """One model call of a node, counted. Text takes the short way: from the socket through `on_delta`."""
        request = parts.request(
            messages, tool_choice=tool_choice, response_schema=response_schema, timeout_seconds=timeout_seconds
        )
        return await self.complete(parts, request, on_delta)

    async def complete(self, parts: NodeParts, request: ModelRequest, on_delta: DeltaSink | None) -> ModelAnswer:
        """What answers a request of a node's model, whoever makes it."""
        return await counted(parts, request, on_delta, self.calls)

    async def make_calls(self, round_: ToolRound) -> list[ToolOutcome]:
        """The outcomes of a round, whoever makes its calls."""
        return await round_.run(self.telling)

    async def write(self, parts: NodeParts, messages: Sequence[ModelMessage]) -> None:
        """Let a node write the visible answer. Raises ModelProtocolError when it writes none."""
        await self.ask(parts, messages, on_delta=self.telling.writer(parts.node))
        self.require_answer()

    def require_answer(self) -> None:
        if not self.telling.has_visible_text:
            raise ModelProtocolError("the model wrote no answer")

    def paragraph_writer(self, node: str) -> DeltaSink:
        """A writer for a node that may write more than once: its text begins a paragraph of its own."""
        write = self.telling.writer(node)
        if not self.telling.has_visible_text:
            return write
        is_first = True

        def write_on(text: str) -> None:
            nonlocal is_first
            write(PARAGRAPH + text if is_first else text)
            is_first = False

        return write_on

    async def decide(self, parts: NodeParts, messages: Sequence[ModelMessage], question: Question[T]) -> T:
        """A decision of a node's model: asked once, repaired once, both within the node's time, then the default."""
        until = asyncio.get_running_loop().time() + parts.timeout_seconds
        answer = await self.ask(parts, messages, response_schema=question.schema)
        decision, complaint = question.read(answer.content)
        seconds_left = until - asyncio.get_running_loop().time()
        if decision is None and seconds_left > 0:
            answer = await self.ask(
                parts,
                [*messages, *repair(question, answer, complaint)],
                response_schema=question.schema,
                timeout_seconds=seconds_left,
            )
            decision, complaint = question.read(answer.content)
        if decision is None:
            log.warning("decision_defaulted", run_id=str(self.request.run_id), node=parts.node)
            return question.default
        return decision


async def counted(
    parts: NodeParts, request: ModelRequest, on_delta: DeltaSink | None, calls: list[ModelCall]
) -> ModelAnswer:
    """A model's answer, its call noted in `calls`; so is one that broke off, which is paid for as well."""
    own = AnsweredBy(parts.model.provider, parts.model.client.model_name)
    started = time.monotonic()

    def note(usage: Usage, by: AnsweredBy | None = None) -> None:
        by = by or own
        duration_ms = round((time.monotonic() - started) * 1000)
        calls.append(ModelCall(parts.node, by.provider, by.model_name, usage, duration_ms, datetime.now(UTC)))

    answer = await parts.model.client.complete(msgspec.structs.replace(request, on_broken_off=note), on_delta)
    note(answer.usage, answer.answered_by)
    return answer


def repair(question: Question[Any], answer: ModelAnswer, complaint: str) -> tuple[ModelMessage, ModelMessage]:
    """What is said to a model that gave no usable decision: its own words and what is wrong with them."""
    said = answer.content[:MAX_REPEATED_CHARS] or "(nothing)"
    return ModelMessage("assistant", said), ModelMessage("user", question.repair(complaint))
