"""The system catalogue: the same routes as an organization's, for its administrators."""

from typing import Any
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, MultipartBody

from control_plane.http.etags import IfMatch
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page
from control_plane.plugins.handlers import (
    MAX_FORM_BYTES,
    UPLOAD_ANSWERS,
    ByPid,
    ByTag,
    ByText,
    SystemUploadForm,
    listed,
    removed,
    shown,
    stored,
    upload_status,
    versions_of,
)
from control_plane.plugins.repository import PluginFilter
from control_plane.plugins.schemas import PluginView, SettingsSchemaView, SystemPluginPatch, UploadView
from control_plane.plugins.service import PluginService
from control_plane.plugins.uploads import UploadService
from control_plane.wiring import Resources
from shared.errors import (
    BodyTooLarge,
    InUse,
    PackageIndexUnavailable,
    PluginNotFound,
    PluginRefused,
    PluginVersionExists,
    RateLimited,
)
from shared.security.permissions import Permission


@get("/", guards=[may(Permission.SYSTEM_PLUGINS_READ)], summary="List the system catalogue")
async def list_all(
    plugins: NamedDependency[PluginService],
    tag: ByTag = None,
    pid: ByPid = None,
    q: ByText = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[PluginView]:
    return await listed(plugins, None, PluginFilter(tag, pid, q), limit, cursor)


@get(
    "/{plugin_id:uuid}",
    guards=[may(Permission.SYSTEM_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="Show one version of a system plugin",
)
async def get_one(plugin_id: FromPath[UUID], plugins: NamedDependency[PluginService]) -> Response[PluginView]:
    return shown(await plugins.get(None, plugin_id), None)


@get(
    "/{pid:str}/versions",
    guards=[may(Permission.SYSTEM_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="List the versions of a system plugin",
)
async def list_versions(pid: FromPath[str], plugins: NamedDependency[PluginService]) -> Page[PluginView]:
    """Highest first."""
    return await versions_of(plugins, None, pid)


@get(
    "/{plugin_id:uuid}/settings-schema",
    guards=[may(Permission.SYSTEM_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="Show the settings of a system plugin",
)
async def settings_schema(plugin_id: FromPath[UUID], plugins: NamedDependency[PluginService]) -> SettingsSchemaView:
    return SettingsSchemaView.of(await plugins.get(None, plugin_id))


@post(
    "/upload",
    guards=[may(Permission.SYSTEM_PLUGINS_WRITE)],
    opt=documented(PluginRefused, PluginVersionExists, BodyTooLarge, RateLimited, PackageIndexUnavailable),
    request_max_body_size=MAX_FORM_BYTES,
    responses=UPLOAD_ANSWERS,
    summary="Upload a plugin for all organizations",
)
async def upload(
    data: MultipartBody[SystemUploadForm],
    principal: NamedDependency[Principal],
    resources: NamedDependency[Resources],
    plugin_uploads: NamedDependency[UploadService],
) -> Response[Any]:
    """A zip with one plugin.py. The same bytes again answer 200 with the row that is there.

    When its dependencies take long to install the answer is 202: ask for `uploads/{upload_id}` until it is done.
    """
    return await stored(resources, plugin_uploads, data, principal, None)


@get(
    "/uploads/{upload_id:uuid}",
    guards=[may(Permission.SYSTEM_PLUGINS_WRITE)],
    summary="Show what became of an upload that was answered with 202",
)
async def get_upload(
    upload_id: FromPath[UUID], resources: NamedDependency[Resources], plugins: NamedDependency[PluginService]
) -> UploadView:
    """Known for an hour after it ended."""
    return await upload_status(resources, plugins, None, upload_id)


@patch(
    "/{plugin_id:uuid}",
    guards=[may(Permission.SYSTEM_PLUGINS_WRITE)],
    opt=documented(PluginNotFound),
    summary="Enable, disable, tag or trust a system plugin",
)
async def change(
    plugin_id: FromPath[UUID],
    data: JSONBody[SystemPluginPatch],
    plugins: NamedDependency[PluginService],
    if_match: IfMatch = None,
) -> Response[PluginView]:
    return shown(await plugins.change(None, plugin_id, data, if_match=if_match), None)


@delete(
    "/{plugin_id:uuid}",
    guards=[may(Permission.SYSTEM_PLUGINS_WRITE)],
    opt=documented(PluginNotFound, InUse),
    summary="Delete a version nobody uses",
)
async def remove(
    plugin_id: FromPath[UUID],
    plugins: NamedDependency[PluginService],
    resources: NamedDependency[Resources],
    if_match: IfMatch = None,
) -> Response[None]:
    return await removed(plugins, resources, None, plugin_id, if_match)


router = Router(
    "/api/admin/plugins",
    route_handlers=[list_all, get_one, list_versions, settings_schema, upload, get_upload, change, remove],
    tags=["system plugins"],
)
