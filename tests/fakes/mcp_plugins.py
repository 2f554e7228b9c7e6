"""Snapshots of plugins that are MCP servers, as a worker gets them with their settings opened."""

from typing import Any
from uuid import UUID

from shared.ids import new_id
from shared.mcp.rules import settings_schema
from shared.snapshots import MCPServer, PluginManifest, PluginSnapshot, ToolDescription

PID = "com.acme.remote"
ADD = ToolDescription("add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})


def mcp_snapshot(
    url: str = "",
    *,
    org_id: UUID | None = None,
    server: MCPServer | None = None,
    tools: tuple[ToolDescription, ...] = (ADD,),
    **settings: Any,
) -> PluginSnapshot:
    """`org_id` None makes it a system plugin; `tools` are those that were listed when it was saved."""
    server = server or MCPServer("streamable_http", url=url)
    return PluginSnapshot(
        plugin_id=new_id(),
        source="org" if org_id else "system",
        org_id=org_id,
        pid=PID,
        version="1.0.0",
        digest="d" * 64,
        package_key="",
        manifest=PluginManifest(
            PID, "1.0.0", "Remote", "Calculates elsewhere", tools=tools, settings_schema=settings_schema(server)
        ),
        settings=settings,
        kind="mcp",
        mcp=server,
    )
