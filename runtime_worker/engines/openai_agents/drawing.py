"""A picture of an instance's agents: nodes and the ways between them, with every plugin agent for itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from agents import Agent, Handoff

from runtime_worker.engines.modes.node import AGENT, ERROR_HANDLER, SUGGESTION, ModeNode
from runtime_worker.engines.openai_agents.agents import AnyAgent
from runtime_worker.engines.picture import flowchart


def draw(
    entry: ModeNode, routes: Mapping[ModeNode, Sequence[ModeNode | None]], plugin_agents: Mapping[str, AnyAgent]
) -> str:
    """The routes of a mode as Mermaid. Between plugin agents that have handoffs, the ways are those handoffs."""
    agents = [_drawn(agent.name) for agent in plugin_agents.values()]

    def drawn(node: ModeNode | None) -> Sequence[str | None]:
        if node is None:
            return (None,)
        return agents if node.value == AGENT else (node.value,)

    ways: dict[str, list[str | None]] = {}
    for node, followers in routes.items():
        onward = [name for follower in followers if follower is not node for name in drawn(follower)]
        # A suggestion follows a whole answer: its failure is nobody's to answer for.
        failed = [] if node.value in (ERROR_HANDLER, SUGGESTION) else [ERROR_HANDLER]
        if node.value == AGENT:
            for agent in plugin_agents.values():
                ways[_drawn(agent.name)] = [*map(_target, agent.handoffs), *onward, *failed]
        else:
            ways[node.value] = [*onward, *failed]
    return flowchart([name for name in drawn(entry) if name is not None], ways)


def _target(handoff: Agent[Any] | Handoff[Any, Any]) -> str:
    return _drawn(handoff.name if isinstance(handoff, Agent) else handoff.agent_name)


def _drawn(name: str) -> str:
    """Not the bare name: some are words of Mermaid."""
    return f"{name}_agent"
