"""What the grounded mode means. No framework.

    anchor → router → planner ⇄ control_tools … → synthesizer → (validation) → the answer is visible
    anchor → the end                        the resource is unknown: said so, without a model
    router → synthesizer                    out of scope: a polite refusal, without tools
    validation → synthesizer                not supported: one more draft, then an honest refusal
    any node that fails → error_handler

With a validator an answer is a *draft* until it was found to be supported: nothing of it is visible before. Every
other text of the synthesizer is visible as it is written. A *round* is one visit of `control_tools` and counts as a
hop: there is one plugin only. A plugin without tools needs no planner.
"""

from enum import StrEnum

import msgspec

from runtime_worker.engines.modes.decisions import VERDICT_SCHEMA, Question, Verdict
from runtime_worker.engines.modes.node import ModeNode
from shared.orchestrator_config import GroundedConfig

MAX_DRAFTS = 2
"""The first one and one retry."""


class Node(ModeNode):
    ANCHOR = "anchor_node"
    ROUTER = "router_node"
    PLANNER = "planner_node"
    CONTROL_TOOLS = "control_tools"
    SYNTHESIZER = "synthesizer_node"
    VALIDATION = "validation_node"
    ERROR_HANDLER = "error_handler_node"
    SUGGESTION = "suggestion_node"


ANSWER_NODES = frozenset({Node.SYNTHESIZER, Node.ERROR_HANDLER})


class Shape(msgspec.Struct, frozen=True):
    """What of the mode an instance uses; instances of one shape can share one compiled graph."""

    has_tools: bool
    has_validator: bool
    has_suggestion: bool


class Scope(msgspec.Struct, frozen=True):
    """What the router decided."""

    in_scope: bool
    reason: str = ""


class Writing(StrEnum):
    """What the synthesizer is to write."""

    ANSWER = "answer"
    REPAIRED_ANSWER = "repaired_answer"
    OUT_OF_SCOPE = "out_of_scope"
    NOT_SUPPORTED = "not_supported"

    @property
    def is_refusal(self) -> bool:
        return self in (Writing.OUT_OF_SCOPE, Writing.NOT_SUPPORTED)


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: rounds of tools run, drafts rejected."""

    rounds: int = 0
    rejected: int = 0
    in_scope: bool = True


class Policy(msgspec.Struct, frozen=True):
    """The rules of one instance. Pure: the same question has always the same answer."""

    max_rounds: int
    shape: Shape

    @classmethod
    def of(cls, config: GroundedConfig, *, has_tools: bool) -> "Policy":
        shape = Shape(has_tools, config.enabled_validator, config.enabled_suggestion)
        return cls(min(config.max_tool_rounds, config.max_agent_hops), shape)

    @property
    def max_steps(self) -> int:
        """An upper bound of visited nodes: anchor, router, every round with its planner, one more plan, every draft
        with its validation, the refusal, an error handler in place of it, a suggestion."""
        return 2 * self.max_rounds + 2 * MAX_DRAFTS + 6

    def after_anchor(self, *, is_known: bool) -> Node | None:
        """None ends the run: an unknown resource was said to be unknown."""
        return Node.ROUTER if is_known else None

    def after_router(self, progress: Progress) -> Node:
        return Node.PLANNER if progress.in_scope and self.shape.has_tools else Node.SYNTHESIZER

    def after_planner(self, progress: Progress, *, calls_tools: bool) -> Node:
        return Node.CONTROL_TOOLS if calls_tools and self.has_budget(progress) else Node.SYNTHESIZER

    def after_tools(self, progress: Progress) -> Node:
        """Back for another plan, unless it could call nothing any more."""
        return Node.PLANNER if self.has_budget(progress) else Node.SYNTHESIZER

    def writing(self, progress: Progress) -> Writing:
        """What the synthesizer has to write now."""
        if not progress.in_scope:
            return Writing.OUT_OF_SCOPE
        if progress.rejected >= MAX_DRAFTS:
            return Writing.NOT_SUPPORTED
        return Writing.REPAIRED_ANSWER if progress.rejected else Writing.ANSWER

    def is_draft(self, writing: Writing) -> bool:
        """Whether it has to be found supported before anybody sees it."""
        return self.shape.has_validator and not writing.is_refusal

    def after_synthesizer(self, writing: Writing) -> Node | None:
        """None ends the run. A refusal suggests nothing."""
        if self.is_draft(writing):
            return Node.VALIDATION
        return Node.SUGGESTION if self.shape.has_suggestion and not writing.is_refusal else None

    def after_validation(self, *, is_valid: bool) -> Node | None:
        """None ends the run: the draft has become the answer."""
        if not is_valid:
            return Node.SYNTHESIZER
        return Node.SUGGESTION if self.shape.has_suggestion else None

    def has_budget(self, progress: Progress) -> bool:
        return progress.rounds < self.max_rounds

    def after_round(self, progress: Progress) -> Progress:
        return msgspec.structs.replace(progress, rounds=progress.rounds + 1)

    def after_rejection(self, progress: Progress) -> Progress:
        return msgspec.structs.replace(progress, rejected=progress.rejected + 1)


UNKNOWN_RESOURCE_TEXT = "Sorry, I do not know this resource, so I cannot answer questions about it."
LIMIT_REACHED = "The number of steps for one answer is used up. If something is still missing, say what."
OUT_OF_SCOPE = (
    "The user's message is out of scope. Do not answer it, not even in part: say politely, in two sentences at most, "
    "that you cannot help with this here, and name what you can help with."
)
NOT_SUPPORTED = (
    "No answer could be supported by what is known. Do not answer: say honestly, in two sentences at most, that you "
    "cannot answer this reliably from what is known about the resource. State no facts."
)
NOT_CHECKED = "the answer could not be checked"

SCOPE = Question(
    {
        "type": "object",
        "properties": {"in_scope": {"type": "boolean"}, "reason": {"type": "string"}},
        "required": ["in_scope", "reason"],
        "additionalProperties": False,
    },
    Scope,
    default=Scope(in_scope=True),
)
"""A router that cannot say what it means lets the message pass: planner and synthesizer know the scope as well."""

SUPPORT = Question(VERDICT_SCHEMA, Verdict, default=Verdict(is_valid=False, reasons=[NOT_CHECKED]))
"""What nobody could check is not shown: that is what this mode is for."""


def routes(shape: Shape) -> dict[Node, tuple[Node | None, ...]]:
    """Which nodes can follow each node of a shape, None for the end; a failure leads to the error handler besides."""
    suggestion = (Node.SUGGESTION,) if shape.has_suggestion else ()
    written = (Node.VALIDATION,) if shape.has_validator else ()
    followers: dict[Node, tuple[Node | None, ...]] = {
        Node.ANCHOR: (Node.ROUTER, None),
        Node.ROUTER: (Node.PLANNER, Node.SYNTHESIZER) if shape.has_tools else (Node.SYNTHESIZER,),
        Node.SYNTHESIZER: (*written, None) if shape.has_validator else (*suggestion, None),
        Node.ERROR_HANDLER: (None,),
    }
    if shape.has_tools:
        followers[Node.PLANNER] = (Node.CONTROL_TOOLS, Node.SYNTHESIZER)
        followers[Node.CONTROL_TOOLS] = (Node.PLANNER, Node.SYNTHESIZER)
    if shape.has_validator:
        followers[Node.VALIDATION] = (Node.SYNTHESIZER, *suggestion, None)
    if shape.has_suggestion:
        followers[Node.SUGGESTION] = (None,)
    return followers
