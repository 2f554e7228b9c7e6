"""What the coordinator mode means. No framework.

    coordinator ⇄ agent … → synthesizer        the reports are enough
    coordinator → suspend                       a limit is in the way
    any node that fails → error_handler

Every plugin is one agent with its own tools; it works on one task, reports, and the coordinator decides again. A *hop*
is one agent entered. The coordinator may still finish when the hops are used up; only if it wants to go on, the turn is
suspended. An agent calls tools in up to `max_tool_rounds` rounds and then has to report. Every path ends in exactly one
node that writes the visible answer.
"""

from collections.abc import Sequence

import msgspec

from runtime_worker.engines.modes.agents import AgentNames
from runtime_worker.engines.modes.decisions import Question
from runtime_worker.engines.modes.node import ModeNode
from shared.orchestrator_config import CoordinatorConfig

FINISH = "finish"
"""What the coordinator says instead of an agent's name."""


class Node(ModeNode):
    """`AGENT` stands for every plugin agent; events name the agent by its pid."""

    COORDINATOR = "coordinator_node"
    AGENT = "agent_node"
    SYNTHESIZER = "synthesizer_node"
    SUSPEND = "suspend_node"
    ERROR_HANDLER = "error_handler_node"
    SUGGESTION = "suggestion_node"


ANSWER_NODES = frozenset({Node.SYNTHESIZER, Node.SUSPEND, Node.ERROR_HANDLER})


class Shape(msgspec.Struct, frozen=True):
    has_suggestion: bool


class Route(msgspec.Struct, frozen=True):
    """What the coordinator decided: an agent by the name that models know it by, or `FINISH`."""

    next: str
    task: str = ""


class Progress(msgspec.Struct, frozen=True):
    """How far a run is: `agent` (a pid) was entered `in_a_row` times last."""

    hops: int = 0
    agent: str | None = None
    in_a_row: int = 0


class Policy(msgspec.Struct, frozen=True):
    """The rules of one instance. Pure: the same question has always the same answer."""

    max_agent_hops: int
    consecutive_agent_route_limit: int
    max_tool_rounds: int
    shape: Shape

    @classmethod
    def of(cls, config: CoordinatorConfig) -> "Policy":
        return cls(
            config.max_agent_hops,
            config.consecutive_agent_route_limit,
            config.max_tool_rounds,
            Shape(config.enabled_suggestion),
        )

    @property
    def max_steps(self) -> int:
        """An upper bound of visited nodes: every agent with the decision for it, one more decision, the answer, an
        error handler in place of it, a suggestion."""
        return 2 * self.max_agent_hops + 4

    def after_coordinator(self, agent: str | None, progress: Progress) -> Node:
        """`agent` is the pid that the coordinator wants to enter, None to finish."""
        if agent is None:
            return Node.SYNTHESIZER
        return Node.AGENT if self.limit_reached(agent, progress) is None else Node.SUSPEND

    def limit_reached(self, agent: str, progress: Progress) -> str | None:
        """Why `agent` may not be entered now, in words for the model that wraps up; None when it may."""
        if progress.hops >= self.max_agent_hops:
            return HOPS_USED_UP
        if progress.agent == agent and progress.in_a_row >= self.consecutive_agent_route_limit:
            return GOING_IN_CIRCLES
        return None

    def entered(self, agent: str, progress: Progress) -> Progress:
        return Progress(progress.hops + 1, agent, progress.in_a_row + 1 if progress.agent == agent else 1)

    def must_report(self, rounds: int) -> bool:
        """Whether an agent that ran `rounds` rounds of tools has to report now."""
        return rounds >= self.max_tool_rounds

    def after_agent(self) -> Node:
        return Node.COORDINATOR

    def after_answer(self, node: Node) -> Node | None:
        """None ends the run. Only a whole answer suggests something."""
        return Node.SUGGESTION if self.shape.has_suggestion and node is Node.SYNTHESIZER else None


HOPS_USED_UP = "The number of steps for one answer is used up."
GOING_IN_CIRCLES = "The same step was tried again and again without getting any further."
ROUNDS_USED_UP = "You cannot call tools any more: report now with what you have."
EMPTY_REPORT = "The agent reported nothing."


def route_question(names: AgentNames) -> Question[Route]:
    """The decision of a coordinator over these agents. One that cannot say where to go on finishes with what is there.

    An unknown agent is told to the model once, like any answer that cannot be used.
    """

    def problem(route: Route) -> str | None:
        if is_finish(route) or names.pid(route.next):
            return None
        return f"there is no agent named {route.next[:100]!r}; the agents are: {', '.join(names.all)}"

    schema = {
        "type": "object",
        "properties": {"next": {"type": "string", "enum": [*names.all, FINISH]}, "task": {"type": "string"}},
        "required": ["next", "task"],
        "additionalProperties": False,
    }
    return Question(schema, Route, default=Route(FINISH), problem=problem)


def is_finish(route: Route) -> bool:
    return route.next.strip().lower() == FINISH


def agent_names(pids: Sequence[str]) -> AgentNames:
    return AgentNames(pids, reserved=(FINISH,))


def routes(shape: Shape) -> dict[Node, tuple[Node | None, ...]]:
    """Which nodes can follow each node of a shape, None for the end; a failure leads to the error handler besides."""
    followers: dict[Node, tuple[Node | None, ...]] = {
        Node.COORDINATOR: (Node.AGENT, Node.SYNTHESIZER, Node.SUSPEND),
        Node.AGENT: (Node.COORDINATOR,),
        Node.SYNTHESIZER: (Node.SUGGESTION, None) if shape.has_suggestion else (None,),
        Node.SUSPEND: (None,),
        Node.ERROR_HANDLER: (None,),
    }
    if shape.has_suggestion:
        followers[Node.SUGGESTION] = (None,)
    return followers
