"""What the supervisor mode means: which node comes next, when to stop, what a limit or a failure does. No framework.

    supervisor ⇄ control_tools … → (validation) → synthesizer      tools were needed
    supervisor → facilitator                                        the intent is unclear
    supervisor → conversational                                     no tool is needed
    any node that fails → error_handler

A *round* is one visit of `control_tools`. A *hop* is one plugin agent entered in a round: a round that calls tools of
two plugins is two hops. Every path ends in exactly one node that writes the visible answer.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from runtime_worker.models.base import ModelTool
from shared.errors import DomainError, Kind
from shared.orchestrator_config import SupervisorConfig


class Node(StrEnum):
    SUPERVISOR = "supervisor_node"
    CONTROL_TOOLS = "control_tools"
    VALIDATION = "validation_node"
    SYNTHESIZER = "synthesizer_node"
    FACILITATOR = "facilitator_node"
    CONVERSATIONAL = "conversational_node"
    ERROR_HANDLER = "error_handler_node"
    SUGGESTION = "suggestion_node"

    @property
    def agent(self) -> str:
        """The name that events give to the agent of this node."""
        return self.value.removesuffix("_node")


ANSWER_NODES = frozenset({Node.SYNTHESIZER, Node.FACILITATOR, Node.CONVERSATIONAL, Node.ERROR_HANDLER})
"""Exactly one of them is visited last (but for a suggestion) and writes what the user sees."""


class Signal(StrEnum):
    """What the supervisor model can say besides calling tools, offered to it as two more tools."""

    FACILITATOR = "facilitator"
    CONVERSATIONAL = "conversational"


class Shape(msgspec.Struct, frozen=True):
    """What of the mode an instance uses; instances of one shape can share one compiled graph."""

    has_clarification: bool
    has_validation: bool
    has_suggestion: bool

    @property
    def has_facilitator(self) -> bool:
        return self.has_clarification or self.has_validation


class Decision(msgspec.Struct, frozen=True):
    """What the supervisor model decided: tools to call, or a signal, or (neither) that nothing more is needed."""

    calls_tools: bool = False
    signal: Signal | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a run is. `awaits_validation` when a result came from a tool that is marked to be validated."""

    rounds: int = 0
    hops: int = 0
    awaits_validation: bool = False


class Policy(msgspec.Struct, frozen=True):
    """The rules of one instance. Pure: the same question has always the same answer."""

    max_tool_rounds: int
    max_agent_hops: int
    validates_always: bool
    shape: Shape

    @classmethod
    def of(cls, config: SupervisorConfig, *, has_validated_tools: bool) -> "Policy":
        shape = Shape(
            has_clarification=config.enabled_clarification_intent,
            has_validation=config.enabled_llm_validation or has_validated_tools,
            has_suggestion=config.enabled_suggestion,
        )
        return cls(config.max_tool_rounds, config.max_agent_hops, config.enabled_llm_validation, shape)

    @property
    def signals(self) -> tuple[Signal, ...]:
        return tuple(Signal) if self.shape.has_clarification else (Signal.CONVERSATIONAL,)

    @property
    def max_steps(self) -> int:
        """An upper bound of visited nodes: every round with its supervisor, one more decision, validation, the answer,
        an error handler in place of it, a suggestion."""
        return 2 * self.max_tool_rounds + 5

    def decide(self, called: Sequence[str]) -> Decision:
        """Read the names a supervisor model called. Real tools win over a signal given beside them: the signal was
        about a conversation in which their results are still missing."""
        signals = [Signal(name) for name in called if name in self.signals]
        if len(signals) < len(called):
            return Decision(calls_tools=True)
        return Decision(signal=signals[0] if signals else None)

    def after_supervisor(self, decision: Decision, progress: Progress) -> Node:
        if decision.calls_tools and self.has_budget(progress):
            return Node.CONTROL_TOOLS
        if decision.signal is Signal.FACILITATOR:
            return Node.FACILITATOR
        # With results at hand the answer is made of them, whatever the model calls the situation.
        return self._answer_from_results(progress) if progress.rounds else Node.CONVERSATIONAL

    def after_tools(self, progress: Progress) -> Node:
        """Back for another decision, unless it could call nothing any more."""
        return Node.SUPERVISOR if self.has_budget(progress) else self._answer_from_results(progress)

    def after_validation(self, *, is_valid: bool) -> Node:
        return Node.SYNTHESIZER if is_valid else Node.FACILITATOR

    def after_answer(self, node: Node) -> Node | None:
        """None ends the run. A question back and an apology suggest nothing."""
        suggests = self.shape.has_suggestion and node in (Node.SYNTHESIZER, Node.CONVERSATIONAL)
        return Node.SUGGESTION if suggests else None

    def after_failure(self, node: Node, *, has_visible_text: bool) -> Node | None:
        """Where a failed node leads; None means that the run itself fails.

        Once a part of an answer is on a user's screen, a second answer behind it would read as if it belonged to the
        first. Then the run ends with the error, and what was written stays as it is. An error handler that fails
        without having written anything is replaced by `FIXED_FAILURE_TEXT` and is not a failure.
        """
        return None if has_visible_text or node is Node.ERROR_HANDLER else Node.ERROR_HANDLER

    def has_budget(self, progress: Progress) -> bool:
        return progress.rounds < self.max_tool_rounds and progress.hops < self.max_agent_hops

    def agents_of_round(self, wanted: Sequence[str], progress: Progress) -> tuple[str, ...]:
        """Which of the plugin agents a round may enter, in the order they were asked for."""
        return tuple(dict.fromkeys(wanted))[: self.max_agent_hops - progress.hops]

    def next_progress(self, progress: Progress, agents: Sequence[str], *, awaits_validation: bool) -> Progress:
        """The progress after a round that entered `agents`."""
        return Progress(
            progress.rounds + 1, progress.hops + len(agents), progress.awaits_validation or awaits_validation
        )

    def _answer_from_results(self, progress: Progress) -> Node:
        wants_validation = self.validates_always or progress.awaits_validation
        return Node.VALIDATION if wants_validation and self.shape.has_validation else Node.SYNTHESIZER


FIXED_FAILURE_TEXT = "Sorry, something went wrong and I could not finish this. Please try again in a moment."
LIMIT_REACHED = "The number of steps for one answer is used up. If something is still missing, say what."
HOP_LIMIT_RESULT = "not called: the limit of plugin agents for one turn is reached"

SIGNAL_TOOLS: dict[Signal, ModelTool] = {
    Signal.FACILITATOR: ModelTool(
        name=Signal.FACILITATOR.value,
        description="Signal that it is unclear what the user wants, so that the user is asked. Call nothing else.",
        parameters={
            "type": "object",
            "properties": {"reason": {"type": "string", "description": "What is unclear or missing."}},
            "required": ["reason"],
        },
    ),
    Signal.CONVERSATIONAL: ModelTool(
        name=Signal.CONVERSATIONAL.value,
        description="Signal that no tool is needed: small talk, thanks, or a question about the conversation itself.",
        parameters={"type": "object", "properties": {}},
    ),
}

SIGNAL_RULES: dict[Signal, str] = {
    Signal.FACILITATOR: "- If it is unclear what the user wants, or something is missing that only the user knows, "
    "call `facilitator` alone.",
    Signal.CONVERSATIONAL: "- If no tool is needed to answer, call `conversational` alone.",
}

VERDICT_SCHEMA = {
    "type": "object",
    "properties": {"is_valid": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
    "required": ["is_valid", "reasons"],
    "additionalProperties": False,
}


def describe_failure(error: DomainError) -> str:
    """What an error handler's model is told: enough for an honest sentence, nothing of how we are built."""
    match error.kind:
        case Kind.TIMEOUT:
            return "Working on the request took too long."
        case Kind.LIMITED:
            return "There are too many requests right now."
        case _ if error.retryable:
            return "Something that is needed for an answer is not available right now."
        case _:
            return (
                "Something that is needed for an answer does not work at the moment; trying again will not help soon."
            )
