"""What each node of a supervisor does with a model, tools and the state. Which node comes next is the policy's."""

import json
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import msgspec
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from runtime_worker.engines.base import RunRequest
from runtime_worker.engines.langgraph.messages import to_langchain, tool_calls_of, usage_of
from runtime_worker.engines.langgraph.supervisor_instance import SupervisorInstance
from runtime_worker.engines.modes.history import spoken, well_formed
from runtime_worker.engines.modes.supervisor import (
    FIXED_FAILURE_TEXT,
    HOP_LIMIT_RESULT,
    LIMIT_REACHED,
    VERDICT_SCHEMA,
    Decision,
    Node,
    Progress,
    Signal,
    describe_failure,
)
from runtime_worker.engines.telling import Telling
from runtime_worker.engines.tool_calls import ToolRound, parse_arguments, with_own_ids
from runtime_worker.models.base import ModelMessage, ModelToolCall, Usage
from shared.errors import DomainError, ModelProtocolError, RunFailed
from shared.logging import get_logger
from shared.prompts import as_data

log = get_logger(__name__)

MAX_SUGGESTION_CHARS = 300


class SupervisorState(TypedDict, total=False):
    """What nodes of one run hand to each other. `transcript` is the turn's tool exchange so far."""

    transcript: Annotated[list[BaseMessage], operator.add]
    progress: Progress
    decision: Decision
    calls: tuple[ModelToolCall, ...]
    is_valid: bool
    reasons: str
    failure: DomainError
    answered_by: str


@dataclass
class RunContext:
    """All that belongs to one run besides its state; handed to the graph as its context."""

    instance: SupervisorInstance
    request: RunRequest
    telling: Telling
    usage: Usage = field(default_factory=Usage)

    def conversation(self) -> list[BaseMessage]:
        """History and the new message, tool exchanges included."""
        return [*to_langchain(well_formed(self.request.history)), HumanMessage(self.request.message)]

    def spoken(self) -> list[BaseMessage]:
        """The same without tool exchanges."""
        return [*to_langchain(spoken(self.request.history)), HumanMessage(self.request.message)]

    async def ask(self, node: Node, messages: list[BaseMessage], **options: Any) -> AIMessage:
        """One model call of `node`, counted."""
        parts = self.instance.nodes[node]
        answer = await parts.model.answer(messages, timeout_seconds=parts.timeout_seconds, **parts.offer, **options)
        self.usage += usage_of(answer)
        return answer

    async def write(self, node: Node, messages: list[BaseMessage]) -> dict[str, Any]:
        """Let `node` write the visible answer."""
        await self.ask(node, messages, on_delta=self.telling.writer(node.value))
        if not self.telling.has_visible_text:
            raise ModelProtocolError("the model wrote no answer")
        return {"answered_by": node.agent}


async def supervise(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    system = run.instance.nodes[Node.SUPERVISOR].system()
    answer = await run.ask(Node.SUPERVISOR, [system, *run.conversation(), *state["transcript"]])
    called = tool_calls_of(answer)
    policy = run.instance.policy
    decision = policy.decide([call.name for call in called])
    if not decision.calls_tools:
        return {"decision": decision, "reasons": _reason(called)}
    taken = {m.tool_call_id for m in state["transcript"] if isinstance(m, ToolMessage)}
    calls = with_own_ids([call for call in called if call.name not in policy.signals], taken)
    message = to_langchain([ModelMessage("assistant", str(answer.text), calls)])
    return {"decision": decision, "calls": calls, "transcript": message}


async def control_tools(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    instance, calls, progress = run.instance, state["calls"], state["progress"]
    tools = [instance.toolbox.find(call.name) for call in calls]
    agents = instance.policy.agents_of_round([tool.bundle.pid for tool in tools if tool], progress)
    outcomes = await ToolRound(
        calls=calls,
        toolbox=instance.toolbox,
        node=Node.CONTROL_TOOLS.value,
        agents=agents,
        refusal=HOP_LIMIT_RESULT,
        in_parallel=instance.calls_in_parallel,
        timeout_seconds=instance.tool_timeout_seconds,
    ).run(run.telling)
    awaits_validation = any(
        tool and tool.tool.needs_validation and not outcome.is_error
        for tool, outcome in zip(tools, outcomes, strict=True)
    )
    results = [
        ToolMessage(outcome.content, tool_call_id=call.id) for call, outcome in zip(calls, outcomes, strict=True)
    ]
    progress = instance.policy.next_progress(progress, agents, awaits_validation=awaits_validation)
    return {"transcript": results, "progress": progress}


class _Verdict(msgspec.Struct):
    is_valid: bool
    reasons: list[str] = []


async def validate(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    # As text between tags rather than as tool messages: providers differ in whether those go with structured output.
    shown = "\n".join(as_data("tool_results", str(m.text)) for m in state["transcript"] if isinstance(m, ToolMessage))
    question = HumanMessage(f"{as_data('request', run.request.message)}\n{shown}")
    system = run.instance.nodes[Node.VALIDATION].system()
    answer = await run.ask(Node.VALIDATION, [system, question], response_schema=VERDICT_SCHEMA)
    try:
        verdict = msgspec.json.decode(str(answer.text), type=_Verdict)
    except msgspec.DecodeError:
        raise ModelProtocolError("the model gave no verdict in the form it was asked for") from None
    return {"is_valid": verdict.is_valid, "reasons": "\n".join(f"- {reason}" for reason in verdict.reasons)}


async def synthesize(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    situation = "" if run.instance.policy.has_budget(state["progress"]) else LIMIT_REACHED
    system = run.instance.nodes[Node.SYNTHESIZER].system(situation=situation)
    return await run.write(Node.SYNTHESIZER, [system, *run.conversation(), *state["transcript"]])


async def facilitate(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    reasons = as_data("reasons", state.get("reasons") or "The request is too vague.")
    system = run.instance.nodes[Node.FACILITATOR].system(reasons=reasons)
    return await run.write(Node.FACILITATOR, [system, *run.spoken()])


async def converse(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    system = run.instance.nodes[Node.CONVERSATIONAL].system()
    return await run.write(Node.CONVERSATIONAL, [system, *run.spoken()])


async def apologize(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    failure = state["failure"]
    system = run.instance.nodes[Node.ERROR_HANDLER].system(situation=describe_failure(failure))
    try:
        return await run.write(Node.ERROR_HANDLER, [system, *run.spoken()])
    except DomainError as error:
        if run.telling.has_visible_text:
            raise
        log.warning("error_handler_failed", run_id=str(run.request.run_id), code=error.code, because_of=failure.code)
    run.telling.writer(Node.ERROR_HANDLER.value)(FIXED_FAILURE_TEXT)
    return {"answered_by": Node.ERROR_HANDLER.agent}


async def suggest(state: SupervisorState, run: RunContext) -> dict[str, Any]:
    system = run.instance.nodes[Node.SUGGESTION].system()
    messages = [system, *run.spoken(), AIMessage(run.telling.answer), HumanMessage("Which question could I ask next?")]
    try:
        answer = await run.ask(Node.SUGGESTION, messages)
    except DomainError as error:
        # The answer is complete; a missing suggestion is not worth a word to the user.
        log.info("suggestion_failed", run_id=str(run.request.run_id), code=error.code)
        return {}
    if text := str(answer.text).strip():
        run.telling.sink.suggestion(text[:MAX_SUGGESTION_CHARS])
    return {}


def failure_of(error: Exception, node: Node, run: RunContext) -> DomainError:
    """The domain error that a node's exception stands for; one of ours that nobody foresaw is logged whole."""
    if isinstance(error, DomainError):
        return error
    log.error("node_failed", node=node.value, run_id=str(run.request.run_id), exc_info=error)
    return RunFailed()


def _reason(called: tuple[ModelToolCall, ...]) -> str:
    """What the facilitator signal gave as its reason."""
    for call in called:
        if call.name == Signal.FACILITATOR:
            reason = (parse_arguments(call.arguments) or {}).get("reason")
            return reason if isinstance(reason, str) else json.dumps(reason)
    return ""
