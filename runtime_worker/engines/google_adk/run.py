"""A run on ADK: its model calls and tool calls are steps of the loop of the agent that has the floor."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import msgspec
from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event

from runtime_worker.engines.google_adk.client_llm import short_way
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.nodes.run import I, RunContext
from runtime_worker.engines.telling import Telling
from runtime_worker.engines.tool_calls import ToolRound, with_own_ids
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelMessage, ModelRequest
from runtime_worker.plugins.base import ToolOutcome

NOT_MADE = "not called"
"""What ADK has as the result of a call that is the mode's and not a tool's: a signal, a transfer. What models are told
of it, the mode says."""


class AgentLoop:
    """An agent's own loop of model and tools. ADK yields its events as they come: a reply of the model, the results of
    what it called, the next reply. Between two of them it stands still, and can be left for good."""

    def __init__(self, agent: BaseAgent, parts: NodeParts, context: InvocationContext) -> None:
        self.parts = parts
        self.is_at_results = False
        self._events: AsyncGenerator[Event, None] = agent.run_async(context)

    async def reply(self) -> None:
        """Let the model reply. Raises ModelError."""
        self.is_at_results = False
        await anext(self._events)

    async def results(self) -> None:
        """Let the tools run that the last reply called."""
        await anext(self._events)
        self.is_at_results = True

    async def leave(self) -> None:
        await self._events.aclose()


class OpenRound:
    """The calls of the last reply, as ADK's tools find them."""

    def __init__(self, round_: ToolRound, telling: Telling) -> None:
        self._round = round_
        self._telling = telling
        self._calls = {call.id: call for call in round_.calls}
        self._turns = asyncio.Semaphore(len(round_.calls) or 1 if round_.in_parallel else 1)
        self._outcomes: dict[str, ToolOutcome] = {}

    async def result_of(self, call_id: str) -> str:
        """Make the call, when it is one, and say what it brought. ADK asks for all at the same time, in their order."""
        call = self._calls.get(call_id)
        if call is None:
            return NOT_MADE
        async with self._turns:
            outcome = self._outcomes[call_id] = await self._round.outcome_of(call, self._telling)
        return outcome.content

    @property
    def outcomes(self) -> list[ToolOutcome]:
        return [self._outcomes[call_id] for call_id in self._calls]


@dataclass
class AdkRun(RunContext[I]):
    """`prepared` is what the next model call says, `round` the one whose tools are running."""

    agent_of: Callable[[NodeParts], BaseAgent] = field(kw_only=True)
    context: InvocationContext = field(init=False)
    prepared: ModelRequest = field(init=False)
    state: Any = field(init=False)
    round: OpenRound = field(init=False)
    _answered: ModelAnswer = field(init=False)
    _loop: AgentLoop | None = field(default=None, init=False)
    _call_ids: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._call_ids.update(message.tool_call_id for message in self.history if message.tool_call_id)

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
        """The next reply of a node's agent: in its loop when that has results to go on with, else in a new one."""
        self.prepared = parts.request(
            messages, tool_choice=tool_choice, response_schema=response_schema, timeout_seconds=timeout_seconds
        )
        loop = self._loop
        if loop is None or loop.parts is not parts or not loop.is_at_results:
            await self.leave()
            loop = self._loop = AgentLoop(self.agent_of(parts), parts, self.context)
        way = short_way.set(on_delta)
        try:
            await loop.reply()
        finally:
            short_way.reset(way)
        return self._answered

    async def complete(self, parts: NodeParts, request: ModelRequest, on_delta: DeltaSink | None) -> ModelAnswer:
        answer = await super().complete(parts, request, on_delta)
        # ADK finds calls and results by their ids, and fills in empty ones by itself.
        calls = with_own_ids(answer.tool_calls, self._call_ids)
        self._call_ids.update(call.id for call in calls)
        self._answered = msgspec.structs.replace(answer, tool_calls=calls)
        return self._answered

    async def make_calls(self, round_: ToolRound) -> list[ToolOutcome]:
        """ADK makes them: each is run by its tool, in the loop of the agent that asked for it."""
        if self._loop is None:
            raise RuntimeError("calls come from a reply, and a reply from a loop")
        self.round = OpenRound(round_, self.telling)
        with round_.entered(self.telling):
            await self._loop.results()
        return self.round.outcomes

    async def leave(self) -> None:
        """Leave the loop that is open, if there is one."""
        loop, self._loop = self._loop, None
        if loop is not None:
            await loop.leave()


current_run: ContextVar[AdkRun[Any]] = ContextVar("current_run")
"""The run on whose behalf an agent, a model or a tool works; they are shared by all runs of their instance."""
