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

from runtime_worker.engines.modes.decisions import VERDICT_SCHEMA, Question, Verdict
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.models.base import ModelTool
from shared.orchestrator_config import SupervisorConfig


class Node(ModeNode):
    SUPERVISOR = "supervisor_node"
    CONTROL_TOOLS = "control_tools"
    VALIDATION = "validation_node"
    SYNTHESIZER = "synthesizer_node"
    FACILITATOR = "facilitator_node"
    CONVERSATIONAL = "conversational_node"
    ERROR_HANDLER = "error_handler_node"
    SUGGESTION = "suggestion_node"


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

VERDICT = Question(VERDICT_SCHEMA, Verdict, default=Verdict(is_valid=True))
"""A validator that cannot say what it means has nothing against the results: the synthesizer uses them only anyway."""


def routes(shape: Shape) -> dict[Node, tuple[Node | None, ...]]:
    """Which nodes can follow each node of a shape, None for the end; a failure leads to the error handler besides."""
    decided = [Node.CONTROL_TOOLS, Node.SYNTHESIZER, Node.CONVERSATIONAL]
    from_results = [Node.SYNTHESIZER]
    if shape.has_validation:
        decided.append(Node.VALIDATION)
        from_results.insert(0, Node.VALIDATION)
    if shape.has_clarification:
        decided.append(Node.FACILITATOR)
    suggestion = (Node.SUGGESTION,) if shape.has_suggestion else ()
    followers: dict[Node, tuple[Node | None, ...]] = {
        Node.SUPERVISOR: tuple(decided),
        Node.CONTROL_TOOLS: (Node.SUPERVISOR, *from_results),
        Node.SYNTHESIZER: (*suggestion, None),
        Node.CONVERSATIONAL: (*suggestion, None),
        Node.ERROR_HANDLER: (None,),
    }
    if shape.has_validation:
        followers[Node.VALIDATION] = (Node.SYNTHESIZER, Node.FACILITATOR)
    if shape.has_facilitator:
        followers[Node.FACILITATOR] = (None,)
    if shape.has_suggestion:
        followers[Node.SUGGESTION] = (None,)
    return followers
