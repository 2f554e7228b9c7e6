"""What the nodes of an instance work with, as it was built: immutable, free of anything that belongs to a run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runtime_worker.engines.base import EngineParts, ModelChoice
from runtime_worker.engines.choices import choose, typed_config
from runtime_worker.engines.modes.node import ModeNode
from runtime_worker.models.base import ModelMessage, ModelRequest, ModelTool
from runtime_worker.plugins.base import PluginBundle
from shared.orchestrator_config import AnyConfig, NodeOverride
from shared.prompts import DEFAULT_PROMPTS, as_data, fill
from shared.snapshots import OrchestratorSnapshot

ANSWER_TIMEOUT_FACTOR = 2
"""Answer nodes get twice the node timeout, because they write while a user reads. An override of their own is exact."""


@dataclass(frozen=True)
class NodeParts:
    """What one node works with. Every call of its model takes `tools` along; `tool_choice` is what a call has that says
    nothing else."""

    node: str
    model: ModelChoice
    prompt: str
    values: Mapping[str, str]
    timeout_seconds: float
    tools: tuple[ModelTool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True

    def system(self, **values: str) -> ModelMessage:
        """The filled prompt; `values` are the slots that only a run knows."""
        if not values:
            return self._system
        return ModelMessage("system", fill(self.prompt, {**self.values, **values}))

    def request(
        self,
        messages: Sequence[ModelMessage],
        *,
        tool_choice: str | None = None,
        response_schema: dict[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> ModelRequest:
        """A call of this node's model."""
        return ModelRequest(
            messages=messages,
            tools=self.tools,
            tool_choice=tool_choice or self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            temperature=self.model.temperature,
            max_tokens=self.model.max_tokens,
            response_schema=response_schema,
            timeout_seconds=self.timeout_seconds if timeout_seconds is None else timeout_seconds,
        )

    @cached_property
    def _system(self) -> ModelMessage:
        return ModelMessage("system", fill(self.prompt, self.values))


@dataclass(frozen=True)
class PartsList:
    """Makes the parts of one instance's nodes. `values` are the slots whose text every node of the instance shares."""

    snapshot: OrchestratorSnapshot
    parts: EngineParts
    values: Mapping[str, str]
    answer_nodes: Collection[ModeNode]

    @cached_property
    def config(self) -> AnyConfig:
        return typed_config(self.snapshot)

    def of(
        self,
        node: ModeNode,
        *,
        tools: tuple[ModelTool, ...] = (),
        tool_choice: str = "auto",
        parallel_tool_calls: bool = True,
        **values: str,
    ) -> NodeParts:
        """Raises OrchestratorBuildFailed."""
        override: NodeOverride = getattr(self.config.mode_config, node.value)
        return NodeParts(
            node=node.value,
            model=choose(self.snapshot, self.config, override, self.parts.models),
            prompt=override.prompt_override or DEFAULT_PROMPTS[self.snapshot.mode][node.value],
            values={**self.values, **values},
            timeout_seconds=self._timeout_seconds(node, override),
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
        )

    def _timeout_seconds(self, node: ModeNode, override: NodeOverride) -> float:
        if override.timeout is not None:
            return override.timeout
        factor = ANSWER_TIMEOUT_FACTOR if node in self.answer_nodes else 1
        return self.config.mode_config.node_execution_timeout * factor


def shared_values(snapshot: OrchestratorSnapshot, bundles: Sequence[PluginBundle]) -> dict[str, str]:
    """The slots that prompts of every mode have."""
    return {"whoami": snapshot.whoami, "plugins": "\n".join(described(bundle) for bundle in bundles)}


def described(bundle: PluginBundle, *, tag: str = "plugin", name: str | None = None) -> str:
    """What a plugin says about itself, as data."""
    tools = ", ".join(tool.name for tool in bundle.tools)
    text = "\n".join(part for part in (bundle.description, bundle.system_prompt, f"Tools: {tools}") if part)
    return as_data(tag, text, name=name or bundle.pid)
