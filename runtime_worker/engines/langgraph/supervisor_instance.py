"""A supervisor instance as it was built: immutable, free of anything that belongs to a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import SystemMessage

from runtime_worker.engines.base import EngineParts
from runtime_worker.engines.choices import choose, typed_config
from runtime_worker.engines.langgraph.chat_model import ClientChatModel
from runtime_worker.engines.modes.supervisor import ANSWER_NODES, SIGNAL_RULES, SIGNAL_TOOLS, Node, Policy, Signal
from runtime_worker.engines.toolbox import Toolbox
from runtime_worker.plugins.base import PluginBundle
from shared.frameworks import Mode
from shared.orchestrator_config import NodeOverride, SupervisorConfig
from shared.prompts import DEFAULT_PROMPTS, as_data, fill
from shared.snapshots import OrchestratorSnapshot

ANSWER_TIMEOUT_FACTOR = 2
"""Answer nodes get twice the node timeout, because they write while a user reads. An override of their own is exact."""


@dataclass(frozen=True)
class NodeParts:
    """What one node works with. `offer` is what every call of the model takes along: the tools, where it has any."""

    model: ClientChatModel
    prompt: str
    values: Mapping[str, str]
    timeout_seconds: float
    offer: Mapping[str, Any]

    def system(self, **values: str) -> SystemMessage:
        """The filled prompt; `values` are the slots that only a run knows."""
        return SystemMessage(fill(self.prompt, {**self.values, **values}))


@dataclass(frozen=True)
class SupervisorInstance:
    snapshot: OrchestratorSnapshot
    policy: Policy
    toolbox: Toolbox
    nodes: Mapping[Node, NodeParts]
    calls_in_parallel: bool
    tool_timeout_seconds: float

    @classmethod
    def of(cls, snapshot: OrchestratorSnapshot, parts: EngineParts) -> "SupervisorInstance":
        """Raises OrchestratorBuildFailed."""
        config = typed_config(snapshot)
        mode = config.mode_config
        toolbox = Toolbox(parts.bundles, reserved=tuple(Signal))
        policy = Policy.of(mode, has_validated_tools=toolbox.has_validated)
        values = {
            "whoami": snapshot.whoami,
            "plugins": "\n".join(_described(bundle) for bundle in parts.bundles),
            "signals": "\n".join(SIGNAL_RULES[signal] for signal in policy.signals),
        }
        nodes: dict[Node, NodeParts] = {}
        for node, override in _overrides(mode).items():
            nodes[node] = NodeParts(
                model=ClientChatModel.of(choose(snapshot, config, override, parts.models)),
                prompt=override.prompt_override or DEFAULT_PROMPTS[Mode.SUPERVISOR][node],
                values=values,
                timeout_seconds=_timeout_seconds(node, override, mode),
                offer=_offer(node, toolbox, policy, in_parallel=mode.enabled_parallel_tool_calls),
            )
        return cls(
            snapshot=snapshot,
            policy=policy,
            toolbox=toolbox,
            nodes=nodes,
            calls_in_parallel=mode.enabled_parallel_tool_calls,
            tool_timeout_seconds=mode.node_execution_timeout,
        )


def _overrides(mode: SupervisorConfig) -> dict[Node, NodeOverride]:
    return {node: getattr(mode, node.value) for node in Node if node is not Node.CONTROL_TOOLS}


def _timeout_seconds(node: Node, override: NodeOverride, mode: SupervisorConfig) -> float:
    if override.timeout is not None:
        return override.timeout
    return mode.node_execution_timeout * (ANSWER_TIMEOUT_FACTOR if node in ANSWER_NODES else 1)


def _offer(node: Node, toolbox: Toolbox, policy: Policy, *, in_parallel: bool) -> dict[str, Any]:
    if node is Node.SUPERVISOR:
        signals = tuple(SIGNAL_TOOLS[signal] for signal in policy.signals)
        return {"tools": (*toolbox.offered, *signals), "parallel_tool_calls": in_parallel}
    if node is Node.SYNTHESIZER and toolbox.offered:
        # It calls none, but some providers refuse a conversation with tool results when the tools are not declared.
        return {"tools": toolbox.offered, "tool_choice": "none"}
    return {}


def _described(bundle: PluginBundle) -> str:
    tools = ", ".join(tool.name for tool in bundle.tools)
    text = "\n".join(part for part in (bundle.description, bundle.system_prompt, f"Tools: {tools}") if part)
    return as_data("plugin", text, name=bundle.pid)
