"""One run on the Agents SDK: the context that its agents, tools and hooks are given."""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from agents import (
    Agent,
    AgentOutputSchemaBase,
    Model,
    ModelProvider,
    RunConfig,
    RunHooks,
    Runner,
    RunResult,
)

from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.engines.nodes.run import Instance, RunContext
from runtime_worker.engines.nodes.visit import Update, merged
from runtime_worker.engines.openai_agents.items import to_items
from runtime_worker.engines.openai_agents.model import Ask, ClientModel
from runtime_worker.engines.openai_agents.tools import OpenRound, tell_of_missing_tool
from runtime_worker.models.base import DeltaSink, ModelAnswer, ModelMessage, ModelRequest

if TYPE_CHECKING:
    from runtime_worker.engines.openai_agents.wiring import Wired

I = TypeVar("I", bound=Instance, covariant=True)  # noqa: E741


@dataclass
class AgentsRun(RunContext[I]):
    """What an agent with tools does between two calls of its model is the SDK's; one without is asked, once.

    `state` is what visits left, `following` the node that the last one led to. `instructions` are the system prompt of
    the agent's next call, `request_made` is that call, `round` the tool calls that the last answer asked for.
    """

    wired: "Wired" = field(kw_only=True)
    state: Any = field(init=False)
    following: ModeNode | None = field(init=False)
    instructions: Callable[[], ModelMessage] = field(init=False)
    round: OpenRound = field(init=False)
    request_made: ModelRequest = field(init=False)

    async def visit(self, node: ModeNode) -> ModeNode | None:
        """Visit a node and take over what came of it. Returns the node that follows."""
        self.take(*await self.wired.mode.visit(node, self.state, self))
        return self.following

    def take(self, update: Update, following: ModeNode | None) -> None:
        self.state, self.following = merged(self.state, update), following

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
        """One call of a node that does nothing but ask; its agent was built with this choice and schema."""
        system, *conversation = messages

        async def answer(request: ModelRequest) -> ModelAnswer:
            return await self.complete(parts, request, on_delta)

        # What the SDK's loop would ask the agent's model. There is nothing to call and nobody to hand over to, so that
        # the loop has nothing to do here, and it takes longer for that than everything else in the call together.
        agent = self.wired.agents[parts.node]
        return await self._model(parts, answer, timeout_seconds).answer(
            system.content,
            to_items(conversation),
            agent.model_settings,
            agent.tools,
            cast("AgentOutputSchemaBase | None", agent.output_type),
            [],
        )

    async def run_agent(
        self,
        parts: NodeParts,
        agent: "Agent[AgentsRun[Any]]",
        conversation: Sequence[ModelMessage],
        ask: Ask,
        *,
        instructions: Callable[[], ModelMessage],
        max_turns: int,
        hooks: "RunHooks[AgentsRun[Any]] | None" = None,
        refused: Collection[str] = (),
    ) -> RunResult:
        """The SDK's own loop, from this agent on. `ask` stands for the model of every agent it comes to; each call has
        the time that `parts` have. `refused` are ids of calls that must find nothing to call.

        Raises MaxTurnsExceeded, and what `ask` raises.
        """
        self.instructions = instructions
        self.round = OpenRound(_nothing)
        config = RunConfig(
            model=self._model(parts, ask, refused=refused),
            model_provider=_NO_PROVIDER,
            tracing_disabled=True,
            tracing={"include_task_and_turn_spans": False},
            trace_include_sensitive_data=False,
            tool_not_found_behavior="return_error_to_model",
            tool_error_formatter=tell_of_missing_tool,
        )
        try:
            return await Runner.run(
                own(agent), to_items(conversation), context=self, max_turns=max_turns, hooks=hooks, run_config=config
            )
        finally:
            await self.round.close()

    def _model(
        self, parts: NodeParts, ask: Ask, timeout_seconds: float | None = None, *, refused: Collection[str] = ()
    ) -> ClientModel:
        return ClientModel(
            ask,
            name=parts.model.client.model_name,
            timeout_seconds=timeout_seconds or parts.timeout_seconds,
            refused=refused,
        )


def own(agent: Agent[AgentsRun[Any]]) -> Agent[AgentsRun[Any]]:
    """The agent for one run: the same in all but identity. The SDK compares the tools of an agent with those that every
    other run of the same object saw, several times a turn, which grows with the square of the runs there are at once.
    """
    return copy(agent)


def without_calls(answer: ModelAnswer) -> ModelAnswer:
    """The answer as the SDK takes it for a final one."""
    return msgspec.structs.replace(answer, tool_calls=())


class _NoProvider(ModelProvider):
    """In place of the SDK's default one, which reads keys and addresses from the environment."""

    def get_model(self, model_name: str | None) -> Model:
        raise LookupError(f"no model is known by a name, not even {model_name!r}")


_NO_PROVIDER = _NoProvider()


async def _nothing() -> Mapping[str, str]:
    return {}
