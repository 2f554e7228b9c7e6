"""Loads plugins that are MCP servers. The library behind them is imported with the first one."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import PluginLoadFailed
from shared.mcp.rules import ALLOWED_TOOLS, HEADERS, setting_problem
from shared.security.addresses import url_problem
from shared.snapshots import PluginSnapshot

if TYPE_CHECKING:
    from runtime_worker.plugins.mcp_bundle import MCPBundle


class MCPLoader:
    """See `base.BundleLoader`. Takes snapshots whose settings are already opened."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> "MCPBundle":
        """A server that does not answer is no reason not to serve: its tools fail until it does.

        Raises PluginLoadFailed for what can never work.
        """
        if problem := self._problem(plugin):
            raise PluginLoadFailed(f"{plugin.pid}@{plugin.version}: {problem}")
        connection_type, bundle_type = await asyncio.to_thread(_types)
        headers, allowed = plugin.settings.get(HEADERS), plugin.settings.get(ALLOWED_TOOLS)
        connection = connection_type(plugin, headers or {}, org_id=org_id, allow_private=self._allow_private)
        try:
            await connection.start()
        except BaseException:
            # Cancelled while connecting: the task that does it must not outlive its plugin.
            await connection.close()
            raise
        return bundle_type(plugin, connection, allowed)

    def _problem(self, plugin: PluginSnapshot) -> str | None:
        server = plugin.mcp
        if server is None:
            return "it has no server"
        if server.transport == "stdio" and plugin.source != "system":
            return "only a system plugin may start a command"
        if server.transport == "streamable_http" and (
            problem := url_problem(server.url, allow_private=self._allow_private)
        ):
            return f"the URL of its server {problem}"
        return _settings_problem(plugin.settings)


def _settings_problem(settings: dict[str, Any]) -> str | None:
    for key, expected in ((ALLOWED_TOOLS, list), (HEADERS, dict)):
        value = settings.get(key)
        if value is None:
            continue
        if not isinstance(value, expected):
            return f"the setting {key} is of the wrong type"
        if problem := setting_problem(key, value):
            return f"the setting {key} {problem}"
    return None


def _types() -> tuple[type[Any], type["MCPBundle"]]:
    """Takes half a second the first time."""
    from runtime_worker.plugins.mcp_bundle import MCPBundle
    from runtime_worker.plugins.mcp_connection import MCPConnection

    return MCPConnection, MCPBundle
