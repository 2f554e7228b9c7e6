"""The coordinator on the Agents SDK: it routes by structured output, and every plugin is an agent with its own tools,
which works on its task in the SDK's loop and reports."""

from collections.abc import Mapping

import msgspec

from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.coordinator import CoordinatorInstance
from runtime_worker.engines.modes.coordinator import ROUNDS_USED_UP, Node
from runtime_worker.engines.nodes.coordinator import (
    COORDINATOR,
    CoordinatorState,
    assignment,
    task_done,
    wanted_agent,
)
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.visit import Update
from runtime_worker.engines.openai_agents.agents import AnyAgent, agent_of
from runtime_worker.engines.openai_agents.deciding import contents_of
from runtime_worker.engines.openai_agents.run import AgentsRun, without_calls
from runtime_worker.engines.openai_agents.tools import Contents, OpenRound
from runtime_worker.engines.openai_agents.wiring import Wiring
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelRequest, ModelToolCall

Run = AgentsRun[CoordinatorInstance]


async def work_on_task(state: CoordinatorState, run: Run) -> Update:
    """One agent's whole visit: tools in rounds, then its report."""
    agent, max_rounds = wanted_agent(state, run), run.instance.policy.max_tool_rounds
    visit = _TaskVisit(agent, state, run)
    result = await run.run_agent(
        agent.parts,
        run.wired.plugin_agents[agent.pid],
        assignment(agent, state, run),
        visit.ask,
        instructions=visit.instructions,
        max_turns=max_rounds + 1,
    )
    return task_done(str(result.final_output), visit.exchange, state, run)


class _TaskVisit:
    """What one visit of an agent has come to."""

    def __init__(self, agent: AgentParts, state: CoordinatorState, run: Run) -> None:
        self.exchange: list[ModelMessage] = []
        self._agent = agent
        self._state = state
        self._run = run
        self._rounds = 0

    def instructions(self) -> ModelMessage:
        return self._agent.parts.system(situation=ROUNDS_USED_UP if self._must_report else "")

    async def ask(self, request: ModelRequest) -> ModelAnswer:
        if self._must_report:
            request = msgspec.structs.replace(request, tool_choice="none")
        answer = await self._run.complete(self._agent.parts, request, None)
        if self._must_report or not answer.tool_calls:
            return without_calls(answer)
        message, calls = asked_for(self._run, answer, answer.tool_calls, [*self._state["transcript"], *self.exchange])
        self._run.round = OpenRound(lambda: self._call_tools(message, calls))
        return msgspec.structs.replace(answer, tool_calls=calls)

    async def _call_tools(self, message: ModelMessage, calls: tuple[ModelToolCall, ...]) -> Contents:
        outcomes = await run_round(self._run, self._agent.toolbox, calls)
        brought = results(calls, [outcome.content for outcome in outcomes])
        self.exchange += [message, *brought]
        self._rounds += 1
        return contents_of(brought)

    @property
    def _must_report(self) -> bool:
        return self._run.instance.policy.must_report(self._rounds)


def _agents(instance: CoordinatorInstance) -> Mapping[str, AnyAgent]:
    return {pid: agent_of(agent.parts, agent.name) for pid, agent in instance.agents.items()}


COORDINATOR_WIRING = Wiring(
    mode=COORDINATOR,
    works={Node.AGENT: work_on_task},
    schemas=lambda instance: {Node.COORDINATOR: instance.routing.schema},
    plugin_agents=_agents,
)
