"""Adding MCP servers to the catalogues. Everything else about them is as for any other plugin."""

from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.guards import Principal, may
from control_plane.http.handlers import post
from control_plane.http.openapi import documented
from control_plane.plugins.handlers import shown
from control_plane.plugins.mcp import MCPPlugins
from control_plane.plugins.mcp_schemas import MCPServerBody
from control_plane.plugins.schemas import PluginView
from shared.errors import PluginRefused, PluginVersionExists, QuotaReached
from shared.security.permissions import Permission


@post(
    "/",
    guards=[may(Permission.ORG_PLUGINS_WRITE)],
    opt=documented(PluginRefused, PluginVersionExists, QuotaReached),
    summary="Add an MCP server as a plugin",
)
async def add(
    org_id: FromPath[UUID],
    data: JSONBody[MCPServerBody],
    principal: NamedDependency[Principal],
    mcp_plugins: NamedDependency[MCPPlugins],
) -> Response[PluginView]:
    """The server is asked for its tools at once; one that does not answer is refused."""
    return shown(await mcp_plugins.register(org_id, data, principal.user_id), org_id, status_code=201)


@post(
    "/",
    guards=[may(Permission.SYSTEM_PLUGINS_WRITE)],
    opt=documented(PluginRefused, PluginVersionExists),
    summary="Add an MCP server as a plugin for all organizations",
)
async def add_for_all(
    data: JSONBody[MCPServerBody], principal: NamedDependency[Principal], mcp_plugins: NamedDependency[MCPPlugins]
) -> Response[PluginView]:
    """With `stdio`, its command is started on the control plane's machine now, and by every worker that uses it."""
    return shown(await mcp_plugins.register(None, data, principal.user_id), None, status_code=201)


router = Router("/api/orgs/{org_id:uuid}/plugins/mcp", route_handlers=[add], tags=["plugins"])
admin_router = Router("/api/admin/plugins/mcp", route_handlers=[add_for_all], tags=["system plugins"])
