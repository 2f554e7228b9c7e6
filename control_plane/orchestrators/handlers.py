from typing import Annotated
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post, put
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.orchestrators.readiness import Readiness
from control_plane.orchestrators.reading import OrchestratorReader, OrchestratorRecord
from control_plane.orchestrators.running_handlers import HANDLERS as RUNNING_HANDLERS
from control_plane.orchestrators.schemas import (
    ActivateBody,
    ConfigBody,
    OrchestratorBody,
    OrchestratorPatch,
    OrchestratorView,
    PluginSettingsBody,
    StatusBody,
)
from control_plane.orchestrators.service import OrchestratorService
from shared.errors import (
    AlreadyExists,
    Conflict,
    ImmutableField,
    InUse,
    OrchestratorDeactivated,
    PluginSettingsInvalid,
    QuotaReached,
    UnsupportedCombination,
)
from shared.security.permissions import Permission
from shared.snapshots import InstanceStatus

ByStatus = Annotated[InstanceStatus | None, QueryParameter(name="status")]
ByName = Annotated[str | None, QueryParameter(name="q", max_length=200, description="A part of the name.")]


async def shown(
    record: OrchestratorRecord, readiness: Readiness, *, status_code: int = 200
) -> Response[OrchestratorView]:
    view = OrchestratorView.of(record, is_ready=record.id in await readiness.of([record]))
    return tagged(view, record.revision, status_code=status_code)


@post(
    "/",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(AlreadyExists, UnsupportedCombination, PluginSettingsInvalid, QuotaReached),
    summary="Configure an orchestrator",
)
async def create(
    org_id: FromPath[UUID],
    data: JSONBody[OrchestratorBody],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
) -> Response[OrchestratorView]:
    return await shown(await orchestrators.create(org_id, data), readiness, status_code=201)


@get("/", guards=[may(Permission.ORG_ORCHESTRATORS_READ)], summary="List orchestrators")
async def list_all(
    org_id: FromPath[UUID],
    orchestrator_reader: NamedDependency[OrchestratorReader],
    readiness: NamedDependency[Readiness],
    status: ByStatus = None,
    q: ByName = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[OrchestratorView]:
    after = decode_id_cursor(cursor)
    records = await orchestrator_reader.page(org_id, status=status, q=q, after=after, limit=limit)
    ready = await readiness.of(records[:limit])
    return page_of(
        records, limit, key=lambda record: record.id, show=lambda r: OrchestratorView.of(r, is_ready=r.id in ready)
    )


@get(
    "/{instance_id:uuid}",
    guards=[may(Permission.ORG_ORCHESTRATORS_READ)],
    opt=documented(OrchestratorDeactivated),
    summary="Show an orchestrator",
)
async def get_one(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrator_reader: NamedDependency[OrchestratorReader],
    readiness: NamedDependency[Readiness],
) -> Response[OrchestratorView]:
    return await shown(await orchestrator_reader.get(org_id, instance_id), readiness)


@patch(
    "/{instance_id:uuid}",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(AlreadyExists, ImmutableField, PluginSettingsInvalid, OrchestratorDeactivated),
    summary="Change an orchestrator",
)
async def change(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    data: JSONBody[OrchestratorPatch],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    """Workers rebuild it beside the running one; no request fails meanwhile."""
    return await shown(await orchestrators.change(org_id, instance_id, data, if_match=if_match), readiness)


@patch(
    "/{instance_id:uuid}/config",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(UnsupportedCombination, OrchestratorDeactivated),
    summary="Replace an orchestrator's config",
)
async def replace_config(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    data: JSONBody[ConfigBody],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    record = await orchestrators.replace_config(org_id, instance_id, data.config, if_match=if_match)
    return await shown(record, readiness)


@patch(
    "/{instance_id:uuid}/status",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(OrchestratorDeactivated),
    summary="Suspend or activate an orchestrator",
)
async def set_status(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    data: JSONBody[StatusBody],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    record = await orchestrators.set_status(org_id, instance_id, data.status, if_match=if_match)
    return await shown(record, readiness)


@delete(
    "/{instance_id:uuid}",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(OrchestratorDeactivated, InUse),
    summary="Deactivate an orchestrator, or soft-delete it as a sys_admin",
)
async def remove(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    orchestrators: NamedDependency[OrchestratorService],
    if_match: IfMatch = None,
) -> None:
    """Deactivated it answers 410; soft-deleted it is gone for everybody and can be purged."""
    await orchestrators.delete(org_id, instance_id, grant=principal.grant, if_match=if_match)


@delete(
    "/{instance_id:uuid}/purge",
    guards=[may(Permission.SYSTEM_ADMIN)],
    opt=documented(Conflict),
    summary="Remove a soft-deleted orchestrator for good",
)
async def purge(
    org_id: FromPath[UUID], instance_id: FromPath[UUID], orchestrators: NamedDependency[OrchestratorService]
) -> None:
    await orchestrators.purge(org_id, instance_id)


@patch(
    "/{instance_id:uuid}/plugin-settings",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(PluginSettingsInvalid, OrchestratorDeactivated),
    summary="Change settings of an orchestrator's plugins",
)
async def change_plugin_settings(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    data: JSONBody[PluginSettingsBody],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    record = await orchestrators.change_plugin_settings(org_id, instance_id, data.plugin_settings, if_match=if_match)
    return await shown(record, readiness)


@post(
    "/{instance_id:uuid}/plugins/activate",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(PluginSettingsInvalid, OrchestratorDeactivated),
    status_code=200,
    summary="Switch a plugin of an orchestrator to another version",
)
async def activate_plugin(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    data: JSONBody[ActivateBody],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    """Settings that the new version still has are carried over."""
    record = await orchestrators.activate_plugin(org_id, instance_id, data.plugin_id, if_match=if_match)
    return await shown(record, readiness)


@put(
    "/{instance_id:uuid}/plugins/sync",
    guards=[may(Permission.ORG_ORCHESTRATORS_WRITE)],
    opt=documented(OrchestratorDeactivated),
    summary="Tidy the plugin settings of an orchestrator",
)
async def sync_plugins(
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    orchestrators: NamedDependency[OrchestratorService],
    readiness: NamedDependency[Readiness],
    if_match: IfMatch = None,
) -> Response[OrchestratorView]:
    """Settings of plugins that are not active are dropped; defaults of new keys are written down."""
    return await shown(await orchestrators.sync_plugins(org_id, instance_id, if_match=if_match), readiness)


router = Router(
    "/api/orgs/{org_id:uuid}/orchestrators",
    route_handlers=[
        create,
        list_all,
        get_one,
        change,
        replace_config,
        set_status,
        remove,
        purge,
        change_plugin_settings,
        activate_plugin,
        sync_plugins,
        *RUNNING_HANDLERS,
    ],
    tags=["orchestrators"],
)
