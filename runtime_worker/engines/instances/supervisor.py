"""A supervisor instance as it was built."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.instances.agents import AgentParts
from runtime_worker.engines.instances.parts import NodeParts, PartsList, shared_values
from runtime_worker.engines.modes.supervisor import ANSWER_NODES, SIGNAL_RULES, SIGNAL_TOOLS, Node, Policy, Signal
from runtime_worker.engines.toolbox import Toolbox
from shared.orchestrator_config import SupervisorConfig
from shared.snapshots import OrchestratorSnapshot


@dataclass(frozen=True)
class SupervisorInstance:
    snapshot: OrchestratorSnapshot
    policy: Policy
    toolbox: Toolbox
    nodes: Mapping[Node, NodeParts]
    calls_in_parallel: bool
    tool_timeout_seconds: float
    agents: Mapping[str, AgentParts] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "SupervisorInstance":
        """Raises OrchestratorBuildFailed."""
        toolbox = Toolbox(parts.bundles, reserved=tuple(Signal))
        listed = PartsList(snapshot, parts, shared_values(snapshot, parts.bundles), ANSWER_NODES)
        mode = cast("SupervisorConfig", listed.config.mode_config)
        policy = Policy.of(mode, has_validated_tools=toolbox.has_validated)
        signals = tuple(SIGNAL_TOOLS[signal] for signal in policy.signals)
        nodes: dict[Node, NodeParts] = {
            node: listed.of(node)
            for node in Node
            if node not in (Node.SUPERVISOR, Node.SYNTHESIZER, Node.CONTROL_TOOLS)
        }
        nodes[Node.SUPERVISOR] = listed.of(
            Node.SUPERVISOR,
            tools=(*toolbox.offered, *signals),
            parallel_tool_calls=mode.enabled_parallel_tool_calls,
            signals="\n".join(SIGNAL_RULES[signal] for signal in policy.signals),
        )
        # It calls none, but some providers refuse a conversation with tool results when the tools are not declared.
        nodes[Node.SYNTHESIZER] = listed.of(Node.SYNTHESIZER, tools=toolbox.offered, tool_choice="none")
        return cls(
            snapshot=snapshot,
            policy=policy,
            toolbox=toolbox,
            nodes=nodes,
            calls_in_parallel=mode.enabled_parallel_tool_calls,
            tool_timeout_seconds=mode.node_execution_timeout,
        )
