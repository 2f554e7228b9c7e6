"""A coordinator instance as it was built."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.instances.agents import AgentParts, agents_of
from runtime_worker.engines.instances.parts import NodeParts, PartsList, described, shared_values
from runtime_worker.engines.modes.agents import AgentNames
from runtime_worker.engines.modes.coordinator import ANSWER_NODES, Node, Policy, Route, agent_names, route_question
from runtime_worker.engines.modes.decisions import Question
from runtime_worker.engines.toolbox import Toolbox
from shared.orchestrator_config import CoordinatorConfig
from shared.snapshots import OrchestratorSnapshot


@dataclass(frozen=True)
class CoordinatorInstance:
    """`agents` are the plugin agents by pid."""

    snapshot: OrchestratorSnapshot
    policy: Policy
    toolbox: Toolbox
    nodes: Mapping[Node, NodeParts]
    agents: Mapping[str, AgentParts]
    names: AgentNames
    routing: Question[Route]
    calls_in_parallel: bool
    tool_timeout_seconds: float

    @classmethod
    def of(cls, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "CoordinatorInstance":
        """Raises OrchestratorBuildFailed."""
        toolbox = Toolbox(parts.bundles)
        listed = PartsList(snapshot, parts, shared_values(snapshot, parts.bundles), ANSWER_NODES)
        mode = cast("CoordinatorConfig", listed.config.mode_config)
        names = agent_names([bundle.pid for bundle in parts.bundles])
        nodes: dict[Node, NodeParts] = {
            node: listed.of(node) for node in Node if node not in (Node.COORDINATOR, Node.AGENT)
        }
        described_agents = [described(bundle, tag="agent", name=names.of(bundle.pid)) for bundle in parts.bundles]
        nodes[Node.COORDINATOR] = listed.of(Node.COORDINATOR, agents="\n".join(described_agents))
        return cls(
            snapshot=snapshot,
            policy=Policy.of(mode),
            toolbox=toolbox,
            nodes=nodes,
            agents=agents_of(parts.bundles, names, toolbox, listed, Node.AGENT),
            names=names,
            routing=route_question(names),
            calls_in_parallel=mode.enabled_parallel_tool_calls,
            tool_timeout_seconds=mode.node_execution_timeout,
        )
