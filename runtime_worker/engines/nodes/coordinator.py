"""What each node of a coordinator does with a model, tools and the state. Which node comes next is the policy's."""

import operator
from collections.abc import Sequence
from typing import Annotated, TypedDict, cast

import msgspec

from runtime_worker.engines.base import RunResult
from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.coordinator import CoordinatorInstance
from runtime_worker.engines.modes.coordinator import (
    EMPTY_REPORT,
    ROUNDS_USED_UP,
    Node,
    Progress,
    Route,
    is_finish,
    routes,
)
from runtime_worker.engines.nodes.endings import endings
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import ModeWork, Update, result_of
from runtime_worker.models.base import ModelMessage
from shared.errors import DomainError
from shared.prompts import as_data

Run = RunContext[CoordinatorInstance]


class Report(msgspec.Struct, frozen=True):
    """What an agent (a pid) said it did with its `task`."""

    agent: str
    task: str
    text: str


class CoordinatorState(TypedDict, total=False):
    """What nodes of one run hand to each other. `wanted` is the agent (a pid) to enter next with `task`, None to
    finish; `transcript` the tool exchange of all agents, kept for the conversation's history."""

    transcript: Annotated[list[ModelMessage], operator.add]
    reports: Annotated[list[Report], operator.add]
    progress: Progress
    wanted: str | None
    task: str
    failure: DomainError
    answered_by: str


async def coordinate(state: CoordinatorState, run: Run) -> Update:
    parts = run.instance.nodes[Node.COORDINATOR]
    route = await run.decide(parts, coordination(state, run), run.instance.routing)
    return routed(route, run)


def coordination(state: CoordinatorState, run: Run) -> list[ModelMessage]:
    """What the coordinator's model sees."""
    return [run.instance.nodes[Node.COORDINATOR].system(), *run.spoken(), *reported(state, run)]


def routed(route: Route, run: Run) -> Update:
    return {"wanted": None if is_finish(route) else run.instance.names.pid(route.next), "task": route.task}


async def work_on_task(state: CoordinatorState, run: Run) -> Update:
    """One agent's whole visit: tools in rounds, then its report."""
    agent, policy = wanted_agent(state, run), run.instance.policy
    assigned = assignment(agent, state, run)
    exchange: list[ModelMessage] = []
    rounds = 0
    while True:
        must_report = policy.must_report(rounds)
        system = agent.parts.system(situation=ROUNDS_USED_UP if must_report else "")
        answer = await run.ask(agent.parts, [system, *assigned, *exchange], tool_choice="none" if must_report else None)
        if must_report or not answer.tool_calls:
            return task_done(answer.content, exchange, state, run)
        message, calls = asked_for(run, answer, answer.tool_calls, [*state["transcript"], *exchange])
        outcomes = await run_round(run, agent.toolbox, calls)
        exchange += [message, *results(calls, [outcome.content for outcome in outcomes])]
        rounds += 1


def wanted_agent(state: CoordinatorState, run: Run) -> AgentParts:
    """For nodes that follow a decision to go on."""
    return run.instance.agents[cast("str", state["wanted"])]


def assignment(agent: AgentParts, state: CoordinatorState, run: Run) -> list[ModelMessage]:
    """What an agent's model sees besides its prompt and its own tool exchange."""
    task = as_data("task", state["task"] or "Do what you can for the user's last message.")
    return [*run.seen_by(agent.parts), *reported(state, run), ModelMessage("user", f"Your task:\n{task}")]


def task_done(report: str, exchange: Sequence[ModelMessage], state: CoordinatorState, run: Run) -> Update:
    agent = wanted_agent(state, run)
    return {
        "progress": run.instance.policy.entered(agent.pid, state["progress"]),
        "reports": [Report(agent.pid, state["task"], report.strip() or EMPTY_REPORT)],
        "transcript": list(exchange),
    }


def reported(state: CoordinatorState, run: Run) -> list[ModelMessage]:
    """The reports so far as one message of data, none when there are none."""
    if not state["reports"]:
        return []
    shown = "\n".join(
        as_data("report", report.text, agent=run.instance.names.of(report.agent), task=report.task)
        for report in state["reports"]
    )
    return [ModelMessage("user", f"Reports of the agents so far:\n{shown}")]


async def synthesize(state: CoordinatorState, run: Run) -> Update:
    parts = run.instance.nodes[Node.SYNTHESIZER]
    await run.write(parts, [parts.system(), *run.spoken(), *reported(state, run)])
    return {"answered_by": Node.SYNTHESIZER.agent}


async def suspend(state: CoordinatorState, run: Run) -> Update:
    parts = run.instance.nodes[Node.SUSPEND]
    limit = run.instance.policy.limit_reached(wanted_agent(state, run).pid, state["progress"]) or ""
    missing = as_data("missing", state["task"]) if state["task"] else ""
    system = parts.system(situation=f"{limit}\n{missing}".strip())
    await run.write(parts, [system, *run.spoken(), *reported(state, run)])
    return {"answered_by": Node.SUSPEND.agent}


def following(node: Node, state: CoordinatorState, run: Run) -> Node | None:
    policy = run.instance.policy
    match node:
        case Node.COORDINATOR:
            return policy.after_coordinator(state["wanted"], state["progress"])
        case Node.AGENT:
            return policy.after_agent()
        case Node.SYNTHESIZER | Node.SUSPEND:
            return policy.after_answer(node)
        case Node.ERROR_HANDLER | Node.SUGGESTION:
            return None


def agent_name(node: Node, state: CoordinatorState) -> str:
    """The agent of events: plugin agents go by their pid."""
    return state["wanted"] or node.agent if node is Node.AGENT else node.agent


def begin(run: Run) -> CoordinatorState:
    return {"transcript": [], "reports": [], "progress": Progress()}


def result(state: CoordinatorState, run: Run) -> RunResult:
    return result_of(state, run, hops=state["progress"].hops)


COORDINATOR = ModeWork(
    name="coordinator",
    instance_of=CoordinatorInstance.of,
    state_type=CoordinatorState,
    entry=Node.COORDINATOR,
    works={
        Node.COORDINATOR: coordinate,
        Node.AGENT: work_on_task,
        Node.SYNTHESIZER: synthesize,
        Node.SUSPEND: suspend,
        **endings(Node),
    },
    routes=routes,
    begin=begin,
    following=following,
    result=result,
    agent=agent_name,
)
