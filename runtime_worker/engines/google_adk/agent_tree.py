"""An instance's agents: the root of its mode, and below it one for everything that has a model of its own."""

import re
from collections.abc import Sequence
from typing import Any

from google.adk.agents import BaseAgent

from runtime_worker.engines.google_adk.mode_agent import ModeAgent
from runtime_worker.engines.google_adk.node_agent import node_agent
from runtime_worker.engines.google_adk.tools import OfferedTool
from runtime_worker.engines.instances.parts import NodeParts
from runtime_worker.engines.modes.node import ERROR_HANDLER
from runtime_worker.engines.nodes.visit import ModeWork
from runtime_worker.engines.picture import flowchart
from runtime_worker.models.base import ModelTool

AGENT_NODE = "agent_node"
"""Stands for every plugin agent in the routes of a mode."""
_NOT_IN_IDENTIFIERS = re.compile(r"[^a-zA-Z0-9_]")


class AgentTree:
    """Built with an instance and shared by its runs: it holds nothing of them."""

    def __init__(self, mode: ModeWork[Any, Any, Any], instance: Any) -> None:
        self._entry = mode.entry.value
        self._routes = mode.routes(instance.policy.shape)
        plugin_agents = instance.agents.values()
        # ADK wants identifiers; the number keeps apart what only differs in what those cannot have.
        self._plugin_agents = {
            agent.name: f"agent_{number}_{_NOT_IN_IDENTIFIERS.sub('_', agent.name)}"
            for number, agent in enumerate(plugin_agents, start=1)
        }
        self._tools: dict[str, OfferedTool] = {}
        self._agents: dict[int, BaseAgent] = {}
        for node, parts in instance.nodes.items():
            if node in self._routes:
                self._add(parts, name=node.value)
        for agent in plugin_agents:
            self._add(agent.parts, name=self._plugin_agents[agent.name])
        self.root = ModeAgent(name=mode.name, mode=mode, sub_agents=list(self._agents.values()))

    def agent_of(self, parts: NodeParts) -> BaseAgent:
        return self._agents[id(parts)]

    def mermaid(self) -> str:
        """The nodes of the root, with every plugin agent for itself."""
        routes: dict[str, Sequence[str | None]] = {}
        for node, followers in self._routes.items():
            for name in self._drawn(node.value):
                onward = [onward for follower in followers for onward in self._drawn(follower and follower.value)]
                failed = [] if name == ERROR_HANDLER else [ERROR_HANDLER]
                routes[name] = [other for other in (*onward, *failed) if other != name]
        return flowchart(self._drawn(self._entry), routes)

    def _drawn(self, node: str | None) -> Sequence[Any]:
        return tuple(self._plugin_agents.values()) if node == AGENT_NODE else (node,)

    def _add(self, parts: NodeParts, *, name: str) -> None:
        tools = [self._tool(tool) for tool in parts.tools]
        self._agents[id(parts)] = node_agent(parts, name=name, tools=tools)

    def _tool(self, tool: ModelTool) -> OfferedTool:
        """The same one for all agents: names are given out once for an instance."""
        if tool.name not in self._tools:
            self._tools[tool.name] = OfferedTool(tool)
        return self._tools[tool.name]
