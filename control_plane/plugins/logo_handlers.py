"""The logo of a plugin, for whoever may see the plugin."""

from typing import Annotated
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter

from control_plane.http.guards import may
from control_plane.http.handlers import get
from control_plane.http.openapi import documented
from control_plane.plugins.catalogue import CatalogueRow
from control_plane.plugins.logos import read_logo
from control_plane.plugins.service import PluginService
from control_plane.wiring import Resources
from shared.errors import NotFound, PluginLoadFailed, PluginNotFound
from shared.packages.logos import LOGO_MEDIA_TYPE
from shared.security.permissions import Permission

IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(name="If-None-Match", description="The ETag of what the caller has; 304 when that is current."),
]
# A browser that opens it by itself gets a picture and nothing that acts. One version's logo never changes.
_HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": 'inline; filename="logo.png"',
}


async def answered(resources: Resources, row: CatalogueRow, if_none_match: str | None) -> Response[bytes]:
    headers = {**_HEADERS, "ETag": f'"{row.digest}"'}
    if row.logo_url is not None and if_none_match == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers)
    logo = await read_logo(resources.packages, row)
    return Response(logo, media_type=LOGO_MEDIA_TYPE, headers=headers)


@get(
    "/",
    guards=[may(Permission.ORG_PLUGINS_READ)],
    opt=documented(PluginNotFound, NotFound, PluginLoadFailed),
    media_type=LOGO_MEDIA_TYPE,
    summary="Show the logo of a plugin",
)
async def get_logo(
    org_id: FromPath[UUID],
    plugin_id: FromPath[UUID],
    plugins: NamedDependency[PluginService],
    resources: NamedDependency[Resources],
    if_none_match: IfNoneMatch = None,
) -> Response[bytes]:
    """The `logo.png` of its package."""
    return await answered(resources, await plugins.get(org_id, plugin_id), if_none_match)


@get(
    "/",
    guards=[may(Permission.SYSTEM_PLUGINS_READ)],
    opt=documented(PluginNotFound, NotFound, PluginLoadFailed),
    media_type=LOGO_MEDIA_TYPE,
    summary="Show the logo of a system plugin",
)
async def get_system_logo(
    plugin_id: FromPath[UUID],
    plugins: NamedDependency[PluginService],
    resources: NamedDependency[Resources],
    if_none_match: IfNoneMatch = None,
) -> Response[bytes]:
    """The `logo.png` of its package."""
    return await answered(resources, await plugins.get(None, plugin_id), if_none_match)


router = Router("/api/orgs/{org_id:uuid}/plugins/{plugin_id:uuid}/logo", route_handlers=[get_logo], tags=["plugins"])
admin_router = Router(
    "/api/admin/plugins/{plugin_id:uuid}/logo", route_handlers=[get_system_logo], tags=["system plugins"]
)
