"""An instance that follows its plugins: an MCP server may change its tools at any time."""

from collections.abc import Callable
from typing import Generic, TypeVar

from runtime_worker.engines.base import EngineParts
from runtime_worker.plugins.base import PluginTool
from shared.snapshots import OrchestratorSnapshot

I = TypeVar("I")  # noqa: E741
Build = Callable[[OrchestratorSnapshot, EngineParts], I]


class CurrentInstance(Generic[I]):
    """What `build` made of a snapshot and its parts, made anew when a plugin has other tools since."""

    def __init__(self, build: Build[I], snapshot: OrchestratorSnapshot, parts: EngineParts) -> None:
        """Raises OrchestratorBuildFailed."""
        self.snapshot = snapshot
        self._build = build
        self._parts = parts
        self._tools = _tools_of(parts)
        self._instance = build(snapshot, parts)

    def get(self) -> I:
        if (tools := _tools_of(self._parts)) != self._tools:
            self._instance, self._tools = self._build(self.snapshot, self._parts), tools
        return self._instance


def _tools_of(parts: EngineParts) -> tuple[tuple[PluginTool, ...], ...]:
    return tuple(bundle.tools for bundle in parts.bundles)
