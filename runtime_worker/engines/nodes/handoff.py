"""What each node of a handoff does with a model, tools and the state. Which node comes next is the policy's."""

import operator
from collections.abc import Sequence
from typing import Annotated, TypedDict

import msgspec

from runtime_worker.engines.base import RunResult
from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.handoff import HandoffInstance
from runtime_worker.engines.modes.handoff import (
    NO_TRANSFER_LEFT,
    ONE_AT_A_TIME,
    ROUNDS_USED_UP,
    Node,
    Progress,
    Transfer,
    is_transfer,
    routes,
    wanted_agent,
)
from runtime_worker.engines.nodes.endings import endings
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import ModeWork, Update, result_of
from runtime_worker.models.base import ModelMessage, ModelToolCall
from shared.errors import DomainError

Run = RunContext[HandoffInstance]


class HandoffState(TypedDict, total=False):
    """What nodes of one run hand to each other. `transcript` is the exchange of tools and transfers so far."""

    transcript: Annotated[list[ModelMessage], operator.add]
    progress: Progress
    failure: DomainError
    answered_by: str


async def take_turn(state: HandoffState, run: Run) -> Update:
    """One agent's whole visit: tools in rounds, until it transfers or has answered."""
    agent, policy = run.instance.agents[state["progress"].agent], run.instance.policy
    exchange: list[ModelMessage] = []
    rounds, must_answer = 0, False
    while True:
        must_answer = must_answer or policy.must_answer(rounds)
        messages = [instructions(agent, state, run, must_answer=must_answer), *run.conversation()]
        answer = await run.ask(
            agent.parts,
            [*messages, *state["transcript"], *exchange],
            tool_choice="none" if must_answer else None,
            on_delta=run.paragraph_writer(Node.AGENT.value),
        )
        if must_answer or not answer.tool_calls:
            run.require_answer()
            return {"transcript": exchange, "answered_by": agent.pid}
        message, calls = asked_for(run, answer, answer.tool_calls, [*state["transcript"], *exchange])
        transfers = judged(calls, state, run)
        own = [call for call in calls if call.id not in transfers]
        outcomes = dict(zip((call.id for call in own), await run_round(run, agent.toolbox, own), strict=True))
        contents = [transfers[c.id].told if c.id in transfers else outcomes[c.id].content for c in calls]
        exchange += [message, *results(calls, contents)]
        for transfer in transfers.values():
            if transfer.agent is not None:
                return {"transcript": exchange, "progress": policy.transferred(transfer.agent, state["progress"])}
        rounds += 1
        must_answer = any(transfer.must_answer for transfer in transfers.values())


def instructions(agent: AgentParts, state: HandoffState, run: Run, *, must_answer: bool) -> ModelMessage:
    """The system prompt of an agent's next call."""
    if must_answer:
        return agent.parts.system(situation=ROUNDS_USED_UP)
    can_transfer = len(run.instance.agents) == 1 or run.instance.policy.can_transfer(state["progress"])
    return agent.parts.system(situation="" if can_transfer else NO_TRANSFER_LEFT)


def judged(calls: Sequence[ModelToolCall], state: HandoffState, run: Run) -> dict[str, Transfer]:
    """What becomes of the transfers among these calls, by call id; one at most is accepted."""
    has_begun = run.telling.has_visible_text
    judgements: dict[str, Transfer] = {}
    for call in calls:
        if not is_transfer(call.name) or run.instance.toolbox.find(call.name):
            continue
        if any(judgement.agent for judgement in judgements.values()):
            judgements[call.id] = Transfer(ONE_AT_A_TIME)
            continue
        wanted = wanted_agent(call.name, run.instance.names)
        judgements[call.id] = run.instance.policy.transfer(wanted, state["progress"], has_begun=has_begun)
    return judgements


def following(node: Node, state: HandoffState, run: Run) -> Node | None:
    if node is Node.AGENT:
        return run.instance.policy.after_agent(is_answered="answered_by" in state)
    return None


def agent_name(node: Node, state: HandoffState) -> str:
    """The agent of events: peers go by their pid."""
    return state["progress"].agent if node is Node.AGENT else node.agent


def begin(run: Run) -> HandoffState:
    return {"transcript": [], "progress": run.instance.policy.first(run.request.last_agent)}


def result(state: HandoffState, run: Run) -> RunResult:
    """`current_agent` is who has the conversation, also when the error handler had to speak for it."""
    # What was said beside a call is a part of the visible answer already and would be in the history twice.
    silent = [msgspec.structs.replace(m, content="") if m.tool_calls else m for m in state["transcript"]]
    ended = result_of({**state, "transcript": silent}, run, hops=state["progress"].hops)
    return msgspec.structs.replace(ended, current_agent=state["progress"].agent)


HANDOFF = ModeWork(
    name="handoff",
    instance_of=HandoffInstance.of,
    state_type=HandoffState,
    entry=Node.AGENT,
    works={Node.AGENT: take_turn, **endings(Node)},
    routes=routes,
    begin=begin,
    following=following,
    result=result,
    agent=agent_name,
)
