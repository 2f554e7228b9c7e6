"""The port behind which a plugin's code runs: a host process of its own or, for trusted ones, this process."""

from typing import Any, NamedTuple, Protocol
from uuid import UUID

from shared.plugin_host.messages import PluginTool, ToolOutcome
from shared.snapshots import PluginSnapshot

__all__ = ["Anchor", "BundleLoader", "PluginBundle", "PluginTool", "ScopedBundle", "ToolOutcome"]


class Anchor(NamedTuple):
    """What a scoped agent knows of a resource, `{}` when there is none, and its rules, if they were wanted."""

    context: dict[str, Any]
    rules: str


class PluginBundle(Protocol):
    """A plugin at one version with one set of settings, ready to be called. Immutable; safe for concurrent calls."""

    @property
    def pid(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def tools(self) -> tuple[PluginTool, ...]:
        """The same tuple until they change, which only those of an MCP server do."""
        ...

    @property
    def system_prompt(self) -> str:
        """What a specialized agent tells about itself; empty for the others."""
        ...

    @property
    def resident_bytes(self) -> int:
        """What it holds in memory now: its process, or what there is of it in this one."""
        ...

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        """Run one tool. Never raises for what the tool does: errors, time-outs and bad arguments are outcomes."""
        ...

    async def close(self) -> None:
        """Run the agent's `cleanup` and let go of its modules. Called once, after the last lease."""
        ...


class ScopedBundle(PluginBundle, Protocol):
    """A bundle that may hold a scoped agent, whose conversations stay with one resource."""

    @property
    def is_scoped(self) -> bool: ...

    async def load_anchor(self, resource_id: str, *, with_rules: bool, timeout_seconds: float) -> Anchor:
        """The resource, and in the same question what a conversation about it may be about. Raises ToolFailed."""
        ...

    async def build_scope_rules(self, context: dict[str, Any], *, timeout_seconds: float) -> str:
        """What a conversation may be about, given the context that `load_anchor` brought. Raises ToolFailed."""
        ...


class BundleLoader(Protocol):
    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> PluginBundle:
        """Fetch, verify and start. Raises PluginLoadFailed or StoreUnavailable."""
        ...
