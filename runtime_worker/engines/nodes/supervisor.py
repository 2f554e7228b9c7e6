"""What each node of a supervisor does with a model, tools and the state. Which node comes next is the policy's."""

import json
import operator
from collections.abc import Sequence
from typing import Annotated, TypedDict

from runtime_worker.engines.base import RunResult
from runtime_worker.engines.instances.supervisor import SupervisorInstance
from runtime_worker.engines.modes.supervisor import (
    HOP_LIMIT_RESULT,
    LIMIT_REACHED,
    VERDICT,
    Decision,
    Node,
    Progress,
    Signal,
    routes,
)
from runtime_worker.engines.nodes.endings import endings
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import ModeWork, Update, own_name, result_of
from runtime_worker.engines.tool_calls import parse_arguments
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelToolCall
from runtime_worker.plugins.base import ToolOutcome
from shared.errors import DomainError
from shared.prompts import as_data

Run = RunContext[SupervisorInstance]


class SupervisorState(TypedDict, total=False):
    """What nodes of one run hand to each other. `transcript` is the turn's tool exchange so far."""

    transcript: Annotated[list[ModelMessage], operator.add]
    progress: Progress
    decision: Decision
    calls: tuple[ModelToolCall, ...]
    is_valid: bool
    reasons: str
    failure: DomainError
    answered_by: str


async def supervise(state: SupervisorState, run: Run) -> Update:
    answer = await run.ask(run.instance.nodes[Node.SUPERVISOR], supervision(state, run))
    return decided(answer, state, run)


def supervision(state: SupervisorState, run: Run) -> list[ModelMessage]:
    """What the supervisor's model sees."""
    return [run.instance.nodes[Node.SUPERVISOR].system(), *run.conversation(), *state["transcript"]]


def decided(answer: ModelAnswer, state: SupervisorState, run: Run) -> Update:
    """What the supervisor's model answered, as the decision that it is."""
    policy = run.instance.policy
    decision = policy.decide([call.name for call in answer.tool_calls])
    if not decision.calls_tools:
        return {"decision": decision, "reasons": _reason(answer.tool_calls)}
    real = [call for call in answer.tool_calls if call.name not in policy.signals]
    message, calls = asked_for(run, answer, real, state["transcript"])
    return {"decision": decision, "calls": calls, "transcript": [message]}


async def control_tools(state: SupervisorState, run: Run) -> Update:
    calls = state["calls"]
    agents = agents_of_round(calls, state, run)
    outcomes = await run_round(
        run, run.instance.toolbox, calls, node=Node.CONTROL_TOOLS.value, agents=agents, refusal=HOP_LIMIT_RESULT
    )
    return round_done(calls, agents, outcomes, state, run)


def agents_of_round(calls: Sequence[ModelToolCall], state: SupervisorState, run: Run) -> tuple[str, ...]:
    """The plugin agents (pids) that a round with these calls enters."""
    tools = [run.instance.toolbox.find(call.name) for call in calls]
    return run.instance.policy.agents_of_round([tool.bundle.pid for tool in tools if tool], state["progress"])


def round_done(
    calls: Sequence[ModelToolCall],
    agents: Sequence[str],
    outcomes: Sequence[ToolOutcome],
    state: SupervisorState,
    run: Run,
) -> Update:
    tools = [run.instance.toolbox.find(call.name) for call in calls]
    awaits_validation = any(
        tool and tool.tool.needs_validation and not outcome.is_error
        for tool, outcome in zip(tools, outcomes, strict=True)
    )
    progress = run.instance.policy.next_progress(state["progress"], agents, awaits_validation=awaits_validation)
    return {"transcript": results(calls, [outcome.content for outcome in outcomes]), "progress": progress}


async def validate(state: SupervisorState, run: Run) -> Update:
    # As text between tags rather than as tool messages: providers differ in whether those go with structured output.
    shown = "\n".join(as_data("tool_results", m.content) for m in state["transcript"] if m.role == "tool")
    question = ModelMessage("user", f"{as_data('request', run.request.message)}\n{shown}")
    parts = run.instance.nodes[Node.VALIDATION]
    verdict = await run.decide(parts, [parts.system(), question], VERDICT)
    return {"is_valid": verdict.is_valid, "reasons": verdict.listed}


async def synthesize(state: SupervisorState, run: Run) -> Update:
    situation = "" if run.instance.policy.has_budget(state["progress"]) else LIMIT_REACHED
    parts = run.instance.nodes[Node.SYNTHESIZER]
    await run.write(parts, [parts.system(situation=situation), *run.conversation(), *state["transcript"]])
    return {"answered_by": Node.SYNTHESIZER.agent}


async def facilitate(state: SupervisorState, run: Run) -> Update:
    reasons = as_data("reasons", state.get("reasons") or "The request is too vague.")
    parts = run.instance.nodes[Node.FACILITATOR]
    await run.write(parts, [parts.system(reasons=reasons), *run.spoken()])
    return {"answered_by": Node.FACILITATOR.agent}


async def converse(state: SupervisorState, run: Run) -> Update:
    parts = run.instance.nodes[Node.CONVERSATIONAL]
    await run.write(parts, [parts.system(), *run.spoken()])
    return {"answered_by": Node.CONVERSATIONAL.agent}


def _reason(called: Sequence[ModelToolCall]) -> str:
    """What the facilitator signal gave as its reason."""
    for call in called:
        if call.name == Signal.FACILITATOR:
            reason = (parse_arguments(call.arguments) or {}).get("reason")
            return reason if isinstance(reason, str) else json.dumps(reason)
    return ""


def following(node: Node, state: SupervisorState, run: Run) -> Node | None:
    policy = run.instance.policy
    match node:
        case Node.SUPERVISOR:
            return policy.after_supervisor(state["decision"], state["progress"])
        case Node.CONTROL_TOOLS:
            return policy.after_tools(state["progress"])
        case Node.VALIDATION:
            return policy.after_validation(is_valid=state["is_valid"])
        case Node.SYNTHESIZER | Node.CONVERSATIONAL | Node.FACILITATOR:
            return policy.after_answer(node)
        case Node.ERROR_HANDLER | Node.SUGGESTION:
            return None


def begin(run: Run) -> SupervisorState:
    return {"transcript": [], "progress": Progress()}


def result(state: SupervisorState, run: Run) -> RunResult:
    return result_of(state, run, hops=state["progress"].hops)


SUPERVISOR = ModeWork(
    name="supervisor",
    instance_of=SupervisorInstance.of,
    state_type=SupervisorState,
    entry=Node.SUPERVISOR,
    works={
        Node.SUPERVISOR: supervise,
        Node.CONTROL_TOOLS: control_tools,
        Node.VALIDATION: validate,
        Node.SYNTHESIZER: synthesize,
        Node.FACILITATOR: facilitate,
        Node.CONVERSATIONAL: converse,
        **endings(Node),
    },
    routes=routes,
    begin=begin,
    following=following,
    result=result,
    agent=own_name,
)
