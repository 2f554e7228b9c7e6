"""What a mode is on the Agents SDK: agents for an instance's nodes, and the nodes whose work is a loop of the SDK."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.engines.nodes.visit import ModeWork, Update
from runtime_worker.engines.openai_agents.agents import AnyAgent, agent_of
from runtime_worker.engines.openai_agents.drawing import draw
from runtime_worker.engines.openai_agents.run import AgentsRun
from shared.snapshots import OrchestratorSnapshot

Work = Callable[[Any, AgentsRun[Any]], Awaitable[Update]]
"""What a visit does."""
Loop = Callable[[AgentsRun[Any]], Awaitable[ModeNode | None]]
"""Stands for visits of one or more nodes; returns the node that follows."""


@dataclass(frozen=True)
class Wiring:
    """`works` are the visits that are done otherwise than the mode says, `loops` are by the node that they begin with;
    every other node is visited. `schemas` are those of the nodes that decide by structured output, `options` those of
    agents that need some."""

    mode: ModeWork[Any, Any, Any]
    schemas: Callable[[Any], Mapping[ModeNode, dict[str, Any]]]
    works: Mapping[ModeNode, Work] = field(default_factory=dict)
    loops: Mapping[ModeNode, Loop] = field(default_factory=dict)
    options: Mapping[ModeNode, Mapping[str, Any]] = field(default_factory=dict)
    plugin_agents: Callable[[Any], Mapping[str, AnyAgent]] = lambda _: {}

    def wire(self, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "Wired":
        """Raises OrchestratorBuildFailed."""
        instance = self.mode.instance_of(snapshot, parts)
        routes = self.mode.routes(instance.policy.shape)
        schemas = self.schemas(instance)
        agents = {
            node.value: agent_of(node_parts, node.agent, schema=schemas.get(node), **self.options.get(node, {}))
            for node, node_parts in instance.nodes.items()
            if node in routes
        }
        works: Any = {**self.mode.works, **self.works}
        mode = replace(self.mode, works=works)
        return Wired(mode, instance, self.loops, agents, self.plugin_agents(instance))


@dataclass(frozen=True)
class Wired:
    """An instance as agents, by the name of their node, `plugin_agents` by pid. Shared by all of its runs."""

    mode: ModeWork[Any, Any, Any]
    instance: Any
    loops: Mapping[ModeNode, Loop]
    agents: Mapping[str, AnyAgent]
    plugin_agents: Mapping[str, AnyAgent]

    def mermaid(self) -> str:
        return draw(self.mode.entry, self.mode.routes(self.instance.policy.shape), self.plugin_agents)

    async def drive(self, run: AgentsRun[Any]) -> None:
        """A whole turn, node after node, as the policy leads."""
        run.state = self.mode.begin(run)
        node: ModeNode | None = self.mode.entry
        while node is not None:
            loop = self.loops.get(node)
            node = await (loop(run) if loop is not None else run.visit(node))
