"""Nodes that decide and call tools until the policy leads elsewhere, as one run of one agent: the SDK's own loop.

What a model's answer means and which node follows is the mode's. Here it becomes what the SDK acts upon: calls to make,
another question to the model, or the end of the agent's run.
"""

from collections.abc import Callable, Sequence
from typing import Any

from agents import FunctionToolResult, MaxTurnsExceeded, RunContextWrapper, ToolsToFinalOutputResult

from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.engines.nodes.visit import failed
from runtime_worker.engines.openai_agents.run import AgentsRun
from runtime_worker.engines.openai_agents.tools import Contents, OpenRound
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelRequest, Usage
from shared.errors import DomainError


class DecidingLoop:
    """`head` is the node whose model decides, `tools` the one where its calls are run."""

    def __init__(
        self,
        head: ModeNode,
        tools: ModeNode,
        *,
        instructions: Callable[[AgentsRun[Any]], ModelMessage],
        max_rounds: Callable[[AgentsRun[Any]], int],
    ) -> None:
        self._head = head
        self._tools = tools
        self._instructions = instructions
        self._max_rounds = max_rounds

    async def __call__(self, run: AgentsRun[Any]) -> ModeNode | None:
        async def decide(request: ModelRequest) -> ModelAnswer:
            run.request_made = request
            if await run.visit(self._head) is not self._tools:
                return _NOTHING_MORE
            asked: ModelMessage = run.state["transcript"][-1]
            run.round = OpenRound(call_tools)
            return ModelAnswer(asked.content, asked.tool_calls, "tool_calls", Usage())

        async def call_tools() -> Contents:
            await run.visit(self._tools)
            return contents_of(run.state["transcript"])

        try:
            # A turn more than there are rounds would be a decision that could call nothing: the policy asks for none.
            await run.run_agent(
                run.instance.nodes[self._head],
                run.wired.agents[self._head.value],
                run.conversation(),
                decide,
                instructions=lambda: self._instructions(run),
                max_turns=self._max_rounds(run),
            )
        except MaxTurnsExceeded:
            pass
        except DomainError:
            raise  # A visit's own, which cannot be answered in words any more.
        except Exception as error:  # The framework's: as if the node had broken.
            run.take(*failed(self._head, error, run))
        return run.following

    def goes_on(
        self, context: RunContextWrapper[AgentsRun[Any]], results: list[FunctionToolResult]
    ) -> ToolsToFinalOutputResult:
        """The agent's `tool_use_behavior`: its model is asked again as long as the policy leads back to it."""
        return ToolsToFinalOutputResult(is_final_output=context.context.following is not self._head, final_output="")


_NOTHING_MORE = ModelAnswer("", (), "stop", Usage())


def contents_of(messages: Sequence[ModelMessage]) -> Contents:
    """What calls brought, from the results among messages."""
    return {message.tool_call_id: message.content for message in messages if message.tool_call_id is not None}
