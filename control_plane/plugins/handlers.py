from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, Router
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, MultipartBody, QueryParameter

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of, whole
from control_plane.plugins.catalogue import CatalogueRow
from control_plane.plugins.pending import PendingUpload, Upload
from control_plane.plugins.repository import PluginFilter
from control_plane.plugins.schemas import PluginPatch, PluginView, SettingsSchemaView, Tag, UploadView
from control_plane.plugins.service import PluginService
from control_plane.plugins.uploads import UploadService
from control_plane.wiring import Resources
from control_plane.wiring.plugins import purge_package, register_upload
from shared.errors import (
    BodyTooLarge,
    InUse,
    PackageIndexUnavailable,
    PluginNotFound,
    PluginRefused,
    PluginVersionExists,
    QuotaReached,
    RateLimited,
)
from shared.packages.archive import MAX_PACKAGE_BYTES
from shared.security.permissions import Permission

# The form around the file: boundaries, part headers and the other fields.
MAX_FORM_BYTES = MAX_PACKAGE_BYTES + 64 * 1024

ByTag = Annotated[str | None, QueryParameter(name="tag", max_length=50)]
ByPid = Annotated[str | None, QueryParameter(name="pid", max_length=200)]
ByText = Annotated[
    str | None, QueryParameter(name="q", max_length=200, description="A part of the name, pid or description.")
]


class UploadForm(msgspec.Struct, forbid_unknown_fields=True):
    file: UploadFile
    tag: Tag | None = None


class SystemUploadForm(UploadForm, forbid_unknown_fields=True):
    """`trusted` lets the plugin run inside worker processes."""

    trusted: bool = False


UPLOAD_ANSWERS = {
    200: ResponseSpec(PluginView, description="These very bytes are in the catalogue already"),
    201: ResponseSpec(PluginView, description="Plugin created"),
    202: ResponseSpec(UploadView, description="It takes longer; ask for the upload by its id"),
}


def shown(row: CatalogueRow, seen_by: UUID | None, *, status_code: int = 200) -> Response[PluginView]:
    return tagged(PluginView.of(row, seen_by), row.revision, status_code=status_code)


async def listed(
    plugins: PluginService, org_id: UUID | None, wanted: PluginFilter, limit: int, cursor: str | None
) -> Page[PluginView]:
    rows = await plugins.page(org_id, wanted, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda row: row.id, show=lambda row: PluginView.of(row, org_id))


async def versions_of(plugins: PluginService, org_id: UUID | None, pid: str) -> Page[PluginView]:
    rows = await plugins.versions(org_id, pid)
    if not rows:
        raise PluginNotFound
    return whole([PluginView.of(row, org_id) for row in rows])


async def stored(
    resources: Resources, uploads: UploadService, form: UploadForm, principal: Principal, owner: UUID | None
) -> Response[Any]:
    # One byte more than allowed tells a file that is too large from one that just fits.
    data = await form.file.read(MAX_PACKAGE_BYTES + 1)
    trusted = isinstance(form, SystemUploadForm) and form.trusted
    upload = Upload(owner, data, principal.user_id, form.tag, trusted)
    prepared = await resources.uploads.prepare(upload, partial(register_upload, resources))
    if isinstance(prepared, PendingUpload):
        return Response(UploadView.of(prepared), status_code=202, headers={"Retry-After": "5"})
    row, is_new = await uploads.register(upload, prepared)
    return shown(row, owner, status_code=201 if is_new else 200)


async def upload_status(
    resources: Resources, plugins: PluginService, owner: UUID | None, upload_id: UUID
) -> UploadView:
    pending = await resources.uploads.get(owner, upload_id)
    row = await plugins.get(owner, pending.plugin_id) if pending.plugin_id else None
    return UploadView.of(pending, row, owner)


async def removed(
    plugins: PluginService, resources: Resources, owner: UUID | None, plugin_id: UUID, if_match: str | None
) -> Response[None]:
    row = await plugins.delete(owner, plugin_id, if_match=if_match)
    return Response(None, status_code=204, background=BackgroundTask(purge_package, resources, row))


@get("/", guards=[may(Permission.ORG_PLUGINS_READ)], summary="List the plugins an organization may use")
async def list_all(
    org_id: FromPath[UUID],
    plugins: NamedDependency[PluginService],
    tag: ByTag = None,
    pid: ByPid = None,
    q: ByText = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[PluginView]:
    """Its own and the system's, each version by itself."""
    return await listed(plugins, org_id, PluginFilter(tag, pid, q), limit, cursor)


@get(
    "/{plugin_id:uuid}",
    guards=[may(Permission.ORG_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="Show one version of a plugin",
)
async def get_one(
    org_id: FromPath[UUID], plugin_id: FromPath[UUID], plugins: NamedDependency[PluginService]
) -> Response[PluginView]:
    return shown(await plugins.get(org_id, plugin_id), org_id)


@get(
    "/{pid:str}/versions",
    guards=[may(Permission.ORG_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="List the versions of a plugin",
)
async def list_versions(
    org_id: FromPath[UUID], pid: FromPath[str], plugins: NamedDependency[PluginService]
) -> Page[PluginView]:
    """Highest first."""
    return await versions_of(plugins, org_id, pid)


@get(
    "/{plugin_id:uuid}/settings-schema",
    guards=[may(Permission.ORG_PLUGINS_READ)],
    opt=documented(PluginNotFound),
    summary="Show the settings of a plugin",
)
async def settings_schema(
    org_id: FromPath[UUID], plugin_id: FromPath[UUID], plugins: NamedDependency[PluginService]
) -> SettingsSchemaView:
    return SettingsSchemaView.of(await plugins.get(org_id, plugin_id))


@post(
    "/upload",
    guards=[may(Permission.ORG_PLUGINS_WRITE)],
    opt=documented(
        PluginRefused, PluginVersionExists, BodyTooLarge, QuotaReached, RateLimited, PackageIndexUnavailable
    ),
    request_max_body_size=MAX_FORM_BYTES,
    responses=UPLOAD_ANSWERS,
    summary="Upload a plugin package",
)
async def upload(
    org_id: FromPath[UUID],
    data: MultipartBody[UploadForm],
    principal: NamedDependency[Principal],
    resources: NamedDependency[Resources],
    plugin_uploads: NamedDependency[UploadService],
) -> Response[Any]:
    """A zip with one plugin.py. The same bytes again answer 200 with the row that is there.

    When its dependencies take long to install the answer is 202: ask for `uploads/{upload_id}` until it is done.
    """
    return await stored(resources, plugin_uploads, data, principal, org_id)


@get(
    "/uploads/{upload_id:uuid}",
    guards=[may(Permission.ORG_PLUGINS_WRITE)],
    summary="Show what became of an upload that was answered with 202",
)
async def get_upload(
    org_id: FromPath[UUID],
    upload_id: FromPath[UUID],
    resources: NamedDependency[Resources],
    plugins: NamedDependency[PluginService],
) -> UploadView:
    """Known for an hour after it ended."""
    return await upload_status(resources, plugins, org_id, upload_id)


@patch(
    "/{plugin_id:uuid}",
    guards=[may(Permission.ORG_PLUGINS_WRITE)],
    opt=documented(PluginNotFound),
    summary="Enable, disable or tag a plugin",
)
async def change(
    org_id: FromPath[UUID],
    plugin_id: FromPath[UUID],
    data: JSONBody[PluginPatch],
    plugins: NamedDependency[PluginService],
    if_match: IfMatch = None,
) -> Response[PluginView]:
    """The organization's own only; system plugins are not its to change."""
    return shown(await plugins.change(org_id, plugin_id, data, if_match=if_match), org_id)


@delete(
    "/{plugin_id:uuid}",
    guards=[may(Permission.ORG_PLUGINS_WRITE)],
    opt=documented(PluginNotFound, InUse),
    summary="Delete a version nobody uses",
)
async def remove(
    org_id: FromPath[UUID],
    plugin_id: FromPath[UUID],
    plugins: NamedDependency[PluginService],
    resources: NamedDependency[Resources],
    if_match: IfMatch = None,
) -> Response[None]:
    return await removed(plugins, resources, org_id, plugin_id, if_match)


router = Router(
    "/api/orgs/{org_id:uuid}/plugins",
    route_handlers=[list_all, get_one, list_versions, settings_schema, upload, get_upload, change, remove],
    tags=["plugins"],
)
