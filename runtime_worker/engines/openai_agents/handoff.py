"""The handoff mode on the Agents SDK: peers with handoffs to each other, the whole chain in one run of the SDK.

Which transfers become handoffs is the policy's. One that it refuses is a call that finds nothing to call, and its model
is told what the policy has to say.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
from agents import Handoff, RunContextWrapper, RunHooks

from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.handoff import HandoffInstance
from runtime_worker.engines.modes.handoff import TRANSFERRED, Node, Transfer, wanted_agent
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.engines.nodes.handoff import HANDOFF, instructions, judged
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.visit import Update, failed
from runtime_worker.engines.openai_agents.agents import AnyAgent, agent_of
from runtime_worker.engines.openai_agents.run import AgentsRun, own, without_calls
from runtime_worker.engines.openai_agents.tools import Contents, OpenRound
from runtime_worker.engines.openai_agents.wiring import Wiring
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelRequest, ModelTool, ModelToolCall

Run = AgentsRun[HandoffInstance]


async def chain(run: Run) -> ModeNode | None:
    """The visits of one agent after the other, until one has answered. Returns the node that follows."""
    visits = _Visits(run)
    policy = run.instance.policy
    try:
        with visits.opened:
            visits.begin()
            await run.run_agent(
                visits.agent.parts,
                run.wired.plugin_agents[visits.agent.pid],
                run.conversation(),
                visits.ask,
                instructions=visits.instructions,
                max_turns=(policy.max_agent_hops + 1) * (policy.max_tool_rounds + 1),
                hooks=visits,
                refused=visits.refused,
            )
    except Exception as error:  # As for any visit: a mode promises to answer in words, whatever went wrong.
        run.take(*failed(Node.AGENT, error, run))
    return run.following


class _Visits(RunHooks[AgentsRun[Any]]):
    """The visit that goes on. `refused` are the calls that must not become handoffs."""

    def __init__(self, run: Run) -> None:
        self.opened = ExitStack()
        self.refused: set[str] = set()
        self._run = run

    def begin(self) -> None:
        run = self._run
        self.agent: AgentParts = run.instance.agents[run.state["progress"].agent]
        self.opened.enter_context(run.telling.agent(self.agent.pid, Node.AGENT.value))
        self._exchange: list[ModelMessage] = []
        self._rounds = 0
        self._transfers: Mapping[str, Transfer] = {}

    def instructions(self) -> ModelMessage:
        return instructions(self.agent, self._run.state, self._run, must_answer=self._must_answer)

    async def ask(self, request: ModelRequest) -> ModelAnswer:
        run, must_answer = self._run, self._must_answer
        if must_answer:
            request = msgspec.structs.replace(request, tool_choice="none")
        answer = await run.complete(self.agent.parts, request, run.paragraph_writer(Node.AGENT.value))
        if must_answer or not answer.tool_calls:
            run.require_answer()
            self._end({"answered_by": self.agent.pid})
            return without_calls(answer)
        message, calls = asked_for(run, answer, answer.tool_calls, [*run.state["transcript"], *self._exchange])
        self._transfers = judged(calls, run.state, run)
        self.refused |= {call_id for call_id, transfer in self._transfers.items() if transfer.agent is None}
        run.round = OpenRound(lambda: self._call_tools(message, calls))
        return msgspec.structs.replace(answer, tool_calls=calls)

    async def on_handoff(
        self, context: RunContextWrapper[AgentsRun[Any]], from_agent: AnyAgent, to_agent: AnyAgent
    ) -> None:
        """The SDK has handed over, after it made the calls beside the transfer, if there were any."""
        await self._run.round.contents()
        accepted = next(transfer.agent for transfer in self._transfers.values() if transfer.agent is not None)
        self._end({"progress": self._run.instance.policy.transferred(accepted, self._run.state["progress"])})
        self.opened.close()
        self.begin()

    async def _call_tools(self, message: ModelMessage, calls: tuple[ModelToolCall, ...]) -> Contents:
        transfers = self._transfers
        own = [call for call in calls if call.id not in transfers]
        outcomes = await run_round(self._run, self.agent.toolbox, own)
        contents = {call_id: transfer.told for call_id, transfer in transfers.items()}
        contents |= {call.id: outcome.content for call, outcome in zip(own, outcomes, strict=True)}
        self._exchange += [message, *results(calls, [contents[call.id] for call in calls])]
        self._rounds += 1
        return contents

    def _end(self, update: Update) -> None:
        run = self._run
        run.take({"transcript": self._exchange, **update}, None)
        run.following = run.wired.mode.following(Node.AGENT, run.state, run)

    @property
    def _must_answer(self) -> bool:
        is_stuck = any(transfer.must_answer for transfer in self._transfers.values())
        return is_stuck or self._run.instance.policy.must_answer(self._rounds)


@dataclass
class PeerHandoff(Handoff[AgentsRun[Any], AnyAgent]):
    """A handoff whose result tells the peer that the conversation is its own now."""

    def get_transfer_message(self, agent: object) -> str:
        return TRANSFERRED


def _peers(instance: HandoffInstance) -> Mapping[str, AnyAgent]:
    agents: dict[str, AnyAgent] = {}

    def to(tool: ModelTool) -> PeerHandoff:
        pid = wanted_agent(tool.name, instance.names) or ""

        async def hand_over(context: RunContextWrapper[Any], arguments: str) -> AnyAgent:
            return own(agents[pid])

        return PeerHandoff(
            tool_name=tool.name,
            tool_description=tool.description,
            input_json_schema=tool.parameters,
            on_invoke_handoff=hand_over,
            agent_name=instance.names.of(pid),
            strict_json_schema=False,
        )

    for pid, agent in instance.agents.items():
        transfers = [to(tool) for tool in agent.parts.tools if agent.toolbox.find(tool.name) is None]
        agents[pid] = agent_of(agent.parts, agent.name, handoffs=transfers)
    return agents


HANDOFF_WIRING = Wiring(mode=HANDOFF, schemas=lambda _: {}, loops={Node.AGENT: chain}, plugin_agents=_peers)
