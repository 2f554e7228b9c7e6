"""The plugin agents of an instance whose mode makes one of each plugin."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime_worker.engines.instances.parts import NodeParts, PartsList, described
from runtime_worker.engines.modes.agents import AgentNames
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.models.base import ModelTool
from runtime_worker.plugins.base import PluginBundle

Extras = Callable[[PluginBundle], tuple[Mapping[str, str], tuple[ModelTool, ...]]]


@dataclass(frozen=True)
class AgentParts:
    """One plugin as an agent: `name` is what models call it, `toolbox` its own tools, `parts.tools` all that it is
    offered."""

    pid: str
    name: str
    toolbox: Toolbox
    parts: NodeParts


def no_extras(_: PluginBundle) -> tuple[Mapping[str, str], tuple[ModelTool, ...]]:
    return {}, ()


def agents_of(
    bundles: Sequence[PluginBundle],
    names: AgentNames,
    toolbox: Toolbox,
    listed: PartsList,
    node: ModeNode,
    extras: Extras = no_extras,
) -> dict[str, AgentParts]:
    """The agents by pid; `extras` are slots and tools that an agent has besides those of its plugin."""
    agents: dict[str, AgentParts] = {}
    for bundle in bundles:
        name, own = names.of(bundle.pid), toolbox.only(bundle.pid)
        values, tools = extras(bundle)
        parts = listed.of(
            node,
            tools=(*own.offered, *tools),
            parallel_tool_calls=listed.config.mode_config.enabled_parallel_tool_calls,
            agent=described(bundle, tag="agent", name=name),
            **values,
        )
        agents[bundle.pid] = AgentParts(bundle.pid, name, own, parts)
    return agents
