"""The port behind which a plugin's code runs: in this process for now, in a child process next."""

from typing import Any, Protocol
from uuid import UUID

import msgspec

from shared.snapshots import PluginSnapshot


class PluginTool(msgspec.Struct, frozen=True):
    """One tool. `parameters` is the JSON schema of its arguments; `streams` tools show their result to the client."""

    pid: str
    name: str
    description: str
    parameters: dict[str, Any]
    streams: bool = False
    needs_validation: bool = False


class ToolOutcome(msgspec.Struct, frozen=True):
    """What a call came to. `content` is the text the model gets (also for an error, then without internals).

    `shown` is what a client may see: the result after the tool's stream filter and the size cap, JSON-able.
    """

    content: str
    shown: Any
    is_error: bool = False


class PluginBundle(Protocol):
    """A plugin at one version with one set of settings, ready to be called. Immutable; safe for concurrent calls."""

    @property
    def pid(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def tools(self) -> tuple[PluginTool, ...]: ...

    @property
    def system_prompt(self) -> str:
        """What a specialized agent tells about itself; empty for the others."""
        ...

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        """Run one tool. Never raises for what the tool does: errors, time-outs and bad arguments are outcomes."""
        ...

    async def close(self) -> None:
        """Run the agent's `cleanup` and let go of its modules. Called once, after the last lease."""
        ...


class BundleLoader(Protocol):
    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> PluginBundle:
        """Fetch, verify and start. Raises PluginLoadFailed or StoreUnavailable."""
        ...
