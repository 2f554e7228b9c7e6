"""What each node of a grounded instance does with a model, tools and the state. Which comes next is the policy's."""

import asyncio
import operator
from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import msgspec

from runtime_worker.engines.base import RunResult
from runtime_worker.engines.instances.grounded import GroundedInstance
from runtime_worker.engines.modes.grounded import (
    LIMIT_REACHED,
    NOT_SUPPORTED,
    OUT_OF_SCOPE,
    SCOPE,
    SUPPORT,
    UNKNOWN_RESOURCE_TEXT,
    Node,
    Progress,
    Writing,
    routes,
)
from runtime_worker.engines.nodes.endings import endings
from runtime_worker.engines.nodes.rounds import asked_for, results, run_round
from runtime_worker.engines.nodes.run import RunContext
from runtime_worker.engines.nodes.visit import ModeWork, Update, own_name, result_of
from runtime_worker.engines.tool_calls import GRACE_SECONDS
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelToolCall
from runtime_worker.plugins.base import Anchor
from shared.errors import DomainError, ModelProtocolError, ToolFailed
from shared.prompts import as_data

Run = RunContext[GroundedInstance]

MAX_RESOURCE_CHARS = 24_000
"""Of a resource as models see it. Half of the smallest useful window; what is beyond it, tools have to bring."""
CUT = "\n(the rest is left out)"


class GroundedState(TypedDict, total=False):
    """What nodes of one run hand to each other. `resource` and `scope` are delimited data; `loaded` is an anchor that
    this run loaded; `draft` an answer that nobody has seen yet, `reasons` why the last one was not supported."""

    transcript: Annotated[list[ModelMessage], operator.add]
    progress: Progress
    is_known: bool
    loaded: Mapping[str, Any]
    resource: str
    scope: str
    calls: tuple[ModelToolCall, ...]
    writing: Writing
    draft: str
    is_valid: bool
    reasons: str
    failure: DomainError
    answered_by: str


async def load_anchor(state: GroundedState, run: Run) -> Update:
    """The resource and the scope of this turn. An unknown resource is answered here, without a model."""
    admins, kept = run.instance.scope_rules, run.request.anchor
    if kept:
        rules = admins or await _plugin_rules(kept, run)
        return {"is_known": True, "resource": _shown(kept), "scope": as_data("scope", rules)}
    anchor, rules = await _load(run, with_rules=not admins) if kept is None else Anchor({}, "")
    if not anchor:
        run.telling.writer(Node.ANCHOR.value)(UNKNOWN_RESOURCE_TEXT)
        return {"is_known": False, "answered_by": Node.ANCHOR.agent}
    if run.request.on_anchor is not None:
        run.request.on_anchor(anchor)
    return {
        "is_known": True,
        "resource": _shown(anchor),
        "scope": as_data("scope", admins or rules),
        "loaded": anchor,
    }


async def _load(run: Run, *, with_rules: bool) -> Anchor:
    if not (resource_id := run.request.resource_id):
        return Anchor({}, "")
    # A plugin's own code runs here, as it does in a tool.
    await run.telling.sink.recorded()
    seconds, bundle = run.instance.tool_timeout_seconds, run.instance.bundle
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            return await bundle.load_anchor(resource_id, with_rules=with_rules, timeout_seconds=seconds)
    except TimeoutError:
        raise ToolFailed("loading the resource took too long") from None


async def _plugin_rules(anchor: Mapping[str, Any], run: Run) -> str:
    await run.telling.sink.recorded()
    seconds = run.instance.tool_timeout_seconds
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            return await run.instance.bundle.build_scope_rules(dict(anchor), timeout_seconds=seconds)
    except TimeoutError:
        raise ToolFailed("building the scope rules took too long") from None


def _shown(anchor: Mapping[str, Any]) -> str:
    text = msgspec.json.encode(anchor).decode()
    return as_data("resource", text if len(text) <= MAX_RESOURCE_CHARS else text[:MAX_RESOURCE_CHARS] + CUT)


async def route(state: GroundedState, run: Run) -> Update:
    parts = run.instance.nodes[Node.ROUTER]
    system = parts.system(scope=state["scope"], resource=state["resource"])
    decision = await run.decide(parts, [system, *run.spoken()], SCOPE)
    progress = msgspec.structs.replace(state["progress"], in_scope=decision.in_scope)
    return {"progress": progress, "reasons": decision.reason}


async def plan(state: GroundedState, run: Run) -> Update:
    return planned(await run.ask(run.instance.nodes[Node.PLANNER], planning(state, run)), state, run)


def planning(state: GroundedState, run: Run) -> list[ModelMessage]:
    """What the planner's model sees."""
    system = run.instance.nodes[Node.PLANNER].system(scope=state["scope"], resource=state["resource"])
    return [system, *run.conversation(), *state["transcript"]]


def planned(answer: ModelAnswer, state: GroundedState, run: Run) -> Update:
    if not answer.tool_calls:
        return {"calls": ()}
    message, calls = asked_for(run, answer, answer.tool_calls, state["transcript"])
    return {"calls": calls, "transcript": [message]}


async def control_tools(state: GroundedState, run: Run) -> Update:
    calls, pid = state["calls"], run.instance.bundle.pid
    outcomes = await run_round(run, run.instance.toolbox, calls, node=Node.CONTROL_TOOLS.value, agents=(pid,))
    return {
        "transcript": results(calls, [outcome.content for outcome in outcomes]),
        "progress": run.instance.policy.after_round(state["progress"]),
    }


async def synthesize(state: GroundedState, run: Run) -> Update:
    policy, parts = run.instance.policy, run.instance.nodes[Node.SYNTHESIZER]
    writing = policy.writing(state["progress"])
    messages = synthesis(writing, state, run)
    if not policy.is_draft(writing):
        await run.write(parts, messages)
        return {"writing": writing, "answered_by": Node.SYNTHESIZER.agent}
    answer = await run.ask(parts, messages)
    if not answer.content.strip():
        raise ModelProtocolError("the model wrote no answer")
    return {"writing": writing, "draft": answer.content}


def synthesis(writing: Writing, state: GroundedState, run: Run) -> list[ModelMessage]:
    """What the synthesizer's model sees. A refusal needs no results, and is kept from answering out of them."""
    system = run.instance.nodes[Node.SYNTHESIZER].system(
        scope=state["scope"], resource=state["resource"], situation=_situation(writing, state, run)
    )
    if writing.is_refusal:
        return [system, *run.spoken()]
    return [system, *run.conversation(), *state["transcript"]]


def _situation(writing: Writing, state: GroundedState, run: Run) -> str:
    match writing:
        case Writing.OUT_OF_SCOPE:
            return OUT_OF_SCOPE
        case Writing.NOT_SUPPORTED:
            return NOT_SUPPORTED
        case Writing.REPAIRED_ANSWER:
            rejected = f"{as_data('draft', state['draft'])}\n{as_data('reasons', state['reasons'])}"
            return f"Your last draft was not supported. Leave out what is not, and add nothing new.\n{rejected}"
        case Writing.ANSWER:
            used_up = run.instance.policy.shape.has_tools and not run.instance.policy.has_budget(state["progress"])
            return LIMIT_REACHED if used_up else ""


async def validate(state: GroundedState, run: Run) -> Update:
    """An approved draft becomes visible, as the synthesizer's words that it is."""
    parts = run.instance.nodes[Node.VALIDATION]
    verdict = await run.decide(parts, [parts.system(resource=state["resource"]), examination(state, run)], SUPPORT)
    if verdict.is_valid:
        run.telling.writer(Node.SYNTHESIZER.value)(state["draft"])
        return {"is_valid": True, "answered_by": Node.SYNTHESIZER.agent}
    progress = run.instance.policy.after_rejection(state["progress"])
    return {"is_valid": False, "reasons": verdict.listed, "progress": progress}


def examination(state: GroundedState, run: Run) -> ModelMessage:
    """What a draft is checked against besides the resource: every result the conversation has, earlier turns' too."""
    # As text between tags rather than as tool messages: providers differ in whether those go with structured output.
    known = [m.content for m in (*run.request.history, *state["transcript"]) if m.role == "tool"]
    shown = "\n".join(as_data("tool_results", content) for content in known)
    request, draft = as_data("request", run.request.message), as_data("answer", state["draft"])
    return ModelMessage("user", "\n".join(part for part in (request, shown, draft) if part))


def following(node: Node, state: GroundedState, run: Run) -> Node | None:
    policy = run.instance.policy
    match node:
        case Node.ANCHOR:
            return policy.after_anchor(is_known=state["is_known"])
        case Node.ROUTER:
            return policy.after_router(state["progress"])
        case Node.PLANNER:
            return policy.after_planner(state["progress"], calls_tools=bool(state["calls"]))
        case Node.CONTROL_TOOLS:
            return policy.after_tools(state["progress"])
        case Node.SYNTHESIZER:
            return policy.after_synthesizer(state["writing"])
        case Node.VALIDATION:
            return policy.after_validation(is_valid=state["is_valid"])
        case Node.ERROR_HANDLER | Node.SUGGESTION:
            return None


def begin(run: Run) -> GroundedState:
    return {"transcript": [], "progress": Progress()}


def result(state: GroundedState, run: Run) -> RunResult:
    ended = result_of(state, run, hops=state["progress"].rounds)
    return msgspec.structs.replace(ended, anchor=state.get("loaded"))


GROUNDED = ModeWork(
    name="grounded",
    instance_of=GroundedInstance.of,
    state_type=GroundedState,
    entry=Node.ANCHOR,
    works={
        Node.ANCHOR: load_anchor,
        Node.ROUTER: route,
        Node.PLANNER: plan,
        Node.CONTROL_TOOLS: control_tools,
        Node.SYNTHESIZER: synthesize,
        Node.VALIDATION: validate,
        **endings(Node),
    },
    routes=routes,
    begin=begin,
    following=following,
    result=result,
    agent=own_name,
)
