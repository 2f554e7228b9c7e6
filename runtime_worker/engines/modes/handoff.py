"""What the handoff mode means. No framework.

    agent → agent … → the last one answers
    any agent that fails → error_handler

Every plugin is a peer with its own tools and one transfer tool per other peer. The agent that answered the
conversation's last turn takes the next one, `entry_agent` the first. A *hop* is one transfer. A transfer to an unknown
or to the same agent is refused back to the model. When the hops are used up, or its own tool rounds, the current agent
has to answer.

An agent's words are visible as they are written, because nothing tells beforehand whether a call follows them. So that
one agent alone writes the visible answer, one that has begun to write cannot transfer any more.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime_worker.engines.modes.agents import TRANSFER_PREFIX, AgentNames
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.models.base import ModelTool
from shared.orchestrator_config import HandoffConfig


class Node(ModeNode):
    """`AGENT` stands for every peer; events name the agent by its pid."""

    AGENT = "agent_node"
    ERROR_HANDLER = "error_handler_node"
    SUGGESTION = "suggestion_node"


ANSWER_NODES = frozenset({Node.AGENT, Node.ERROR_HANDLER})


class Shape(msgspec.Struct, frozen=True):
    has_suggestion: bool


class Progress(msgspec.Struct, frozen=True):
    """`agent` (a pid) has the turn, after `hops` transfers."""

    agent: str
    hops: int = 0


class Transfer(msgspec.Struct, frozen=True):
    """What becomes of a transfer: `agent` (a pid) takes over, or it is refused. `told` is the call's result.

    After a refusal that no other transfer could avoid the current agent `must_answer`.
    """

    told: str
    agent: str | None = None
    must_answer: bool = False


class Policy(msgspec.Struct, frozen=True):
    """The rules of one instance. Pure: the same question has always the same answer."""

    max_agent_hops: int
    max_tool_rounds: int
    entry_agent: str
    agents: tuple[str, ...]
    shape: Shape

    @classmethod
    def of(cls, config: HandoffConfig, agents: Sequence[str]) -> "Policy":
        """`agents` are the pids of the instance's plugins; `entry_agent` was checked to be one of them."""
        entry = config.entry_agent or agents[0]
        shape = Shape(config.enabled_suggestion)
        return cls(config.max_agent_hops, config.max_tool_rounds, entry, tuple(agents), shape)

    @property
    def max_steps(self) -> int:
        """An upper bound of visited nodes: every transfer's agent, the first one, an error handler, a suggestion."""
        return self.max_agent_hops + 3

    def first(self, last_agent: str | None) -> Progress:
        """Who takes the turn. An agent that answered last but is no more leaves it to the entry agent."""
        return Progress(last_agent if last_agent is not None and last_agent in self.agents else self.entry_agent)

    def transfer(self, wanted: str | None, progress: Progress, *, has_begun: bool) -> Transfer:
        """What becomes of a transfer to `wanted`, a pid or None for an agent that does not exist."""
        if has_begun:
            return Transfer(ALREADY_ANSWERING, must_answer=True)
        if progress.hops >= self.max_agent_hops:
            return Transfer(HOPS_USED_UP, must_answer=True)
        if wanted is None or wanted not in self.agents:
            return Transfer(NO_SUCH_AGENT)
        if wanted == progress.agent:
            return Transfer(TO_ITSELF)
        return Transfer(TRANSFERRED, agent=wanted)

    def transferred(self, agent: str, progress: Progress) -> Progress:
        return Progress(agent, progress.hops + 1)

    def must_answer(self, rounds: int) -> bool:
        """Whether an agent that called something in `rounds` replies of this visit has to answer now."""
        return rounds >= self.max_tool_rounds

    def can_transfer(self, progress: Progress) -> bool:
        return progress.hops < self.max_agent_hops and len(self.agents) > 1

    def after_agent(self, *, is_answered: bool) -> Node | None:
        """None ends the run."""
        if not is_answered:
            return Node.AGENT
        return Node.SUGGESTION if self.shape.has_suggestion else None


TRANSFERRED = "Transferred. The conversation is yours now: go on with it."
ALREADY_ANSWERING = "not transferred: you have begun to answer, so finish the answer yourself"
HOPS_USED_UP = "not transferred: no further transfer is possible in this turn, so answer yourself"
NO_SUCH_AGENT = "not transferred: there is no colleague of this name"
TO_ITSELF = "not transferred: the conversation is yours already"
ONE_AT_A_TIME = "not transferred: the conversation can go to one colleague only"
NO_TRANSFER_LEFT = "No transfer is possible any more: answer yourself, and say what you cannot do."
ROUNDS_USED_UP = "You cannot call anything any more: answer now with what you have, and say what is missing."


def transfer_tool(name: str, description: str) -> ModelTool:
    """What hands the conversation to the peer that models call `name`."""
    return ModelTool(
        name=TRANSFER_PREFIX + name,
        description=f"Transfer the conversation to {name}: {description}",
        parameters=_TRANSFER_PARAMETERS,
    )


_TRANSFER_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def is_transfer(tool: str) -> bool:
    """Whether a call is meant as a transfer, to whomever."""
    return tool.startswith(TRANSFER_PREFIX)


def wanted_agent(tool: str, names: AgentNames) -> str | None:
    """The pid that a transfer call asks for, None when there is no such agent."""
    return names.pid(tool.removeprefix(TRANSFER_PREFIX))


def routes(shape: Shape) -> dict[Node, tuple[Node | None, ...]]:
    """Which nodes can follow each node of a shape, None for the end; a failure leads to the error handler besides."""
    followers: dict[Node, tuple[Node | None, ...]] = {
        Node.AGENT: (Node.AGENT, Node.SUGGESTION if shape.has_suggestion else None),
        Node.ERROR_HANDLER: (None,),
    }
    if shape.has_suggestion:
        followers[Node.SUGGESTION] = (None,)
    return followers
