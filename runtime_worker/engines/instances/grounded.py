"""A grounded instance as it was built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.parts import NodeParts, PartsList, shared_values
from runtime_worker.engines.modes.grounded import ANSWER_NODES, Node, Policy
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.plugins.base import PluginBundle, ScopedBundle
from shared.errors import OrchestratorBuildFailed
from shared.orchestrator_config import GroundedConfig
from shared.snapshots import OrchestratorSnapshot


@dataclass(frozen=True)
class GroundedInstance:
    """`scope_rules` are the admin's; empty leaves the scope to the plugin."""

    snapshot: OrchestratorSnapshot
    policy: Policy
    bundle: ScopedBundle
    toolbox: Toolbox
    nodes: Mapping[Node, NodeParts]
    scope_rules: str
    calls_in_parallel: bool
    tool_timeout_seconds: float
    agents: Mapping[str, AgentParts] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "GroundedInstance":
        """Raises OrchestratorBuildFailed."""
        bundle = _scoped(parts.bundles)
        toolbox = Toolbox(parts.bundles)
        listed = PartsList(snapshot, parts, shared_values(snapshot, parts.bundles), ANSWER_NODES)
        mode = cast("GroundedConfig", listed.config.mode_config)
        without_parts = (Node.ANCHOR, Node.CONTROL_TOOLS, Node.PLANNER, Node.SYNTHESIZER)
        nodes: dict[Node, NodeParts] = {node: listed.of(node) for node in Node if node not in without_parts}
        nodes[Node.PLANNER] = listed.of(
            Node.PLANNER, tools=toolbox.offered, parallel_tool_calls=mode.enabled_parallel_tool_calls
        )
        # It calls none, but some providers refuse a conversation with tool results when the tools are not declared.
        nodes[Node.SYNTHESIZER] = listed.of(Node.SYNTHESIZER, tools=toolbox.offered, tool_choice="none")
        return cls(
            snapshot=snapshot,
            policy=Policy.of(mode, has_tools=bool(toolbox.offered)),
            bundle=bundle,
            toolbox=toolbox,
            nodes=nodes,
            scope_rules=mode.scope_rules.strip(),
            calls_in_parallel=mode.enabled_parallel_tool_calls,
            tool_timeout_seconds=mode.node_execution_timeout,
        )


def _scoped(bundles: tuple[PluginBundle, ...]) -> ScopedBundle:
    if len(bundles) != 1 or not getattr(bundles[0], "is_scoped", False):
        raise OrchestratorBuildFailed("a grounded orchestrator needs exactly one plugin, with a scoped agent")
    return cast("ScopedBundle", bundles[0])
