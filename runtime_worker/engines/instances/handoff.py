"""A handoff instance as it was built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.instances.agents import AgentParts, agents_of
from runtime_worker.engines.instances.parts import NodeParts, PartsList, described, shared_values
from runtime_worker.engines.modes.agents import AgentNames
from runtime_worker.engines.modes.handoff import ANSWER_NODES, Node, Policy, transfer_tool
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.models.base import ModelTool
from runtime_worker.plugins.base import PluginBundle
from shared.errors import OrchestratorBuildFailed
from shared.orchestrator_config import HandoffConfig
from shared.snapshots import OrchestratorSnapshot


@dataclass(frozen=True)
class HandoffInstance:
    """`agents` are the peers by pid."""

    snapshot: OrchestratorSnapshot
    policy: Policy
    toolbox: Toolbox
    nodes: Mapping[Node, NodeParts]
    agents: Mapping[str, AgentParts]
    names: AgentNames
    calls_in_parallel: bool
    tool_timeout_seconds: float

    @classmethod
    def of(cls, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "HandoffInstance":
        """Raises OrchestratorBuildFailed."""
        listed = PartsList(snapshot, parts, shared_values(snapshot, parts.bundles), ANSWER_NODES)
        mode = cast("HandoffConfig", listed.config.mode_config)
        pids = [bundle.pid for bundle in parts.bundles]
        if not pids:
            raise OrchestratorBuildFailed("a handoff needs at least one plugin")
        if mode.entry_agent is not None and mode.entry_agent not in pids:
            raise OrchestratorBuildFailed(f"entry_agent {mode.entry_agent} is not an active plugin")
        names = AgentNames(pids)
        transfers = {bundle.pid: transfer_tool(names.of(bundle.pid), bundle.description) for bundle in parts.bundles}
        toolbox = Toolbox(parts.bundles, reserved=[tool.name for tool in transfers.values()])

        def extras(bundle: PluginBundle) -> tuple[Mapping[str, str], tuple[ModelTool, ...]]:
            peers = [peer for peer in parts.bundles if peer is not bundle]
            told = "\n".join(described(peer, tag="colleague", name=names.of(peer.pid)) for peer in peers)
            values = {"peers": told or "There are none.", "handoff_instructions": mode.handoff_instructions}
            return values, tuple(transfers[peer.pid] for peer in peers)

        return cls(
            snapshot=snapshot,
            policy=Policy.of(mode, pids),
            toolbox=toolbox,
            nodes={node: listed.of(node) for node in Node if node is not Node.AGENT},
            agents=agents_of(parts.bundles, names, toolbox, listed, Node.AGENT, extras),
            names=names,
            calls_in_parallel=mode.enabled_parallel_tool_calls,
            tool_timeout_seconds=mode.node_execution_timeout,
        )
