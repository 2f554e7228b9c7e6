from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import may
from control_plane.http.handlers import get, patch, post, put
from control_plane.http.openapi import documented
from control_plane.http.paging import Page, whole
from control_plane.settings.schemas import (
    GlobalSettingPatch,
    OrchestratorDefaultsBody,
    OrganizationSettingsBody,
    SettingChange,
    SettingView,
)
from control_plane.settings.service import SettingsService
from shared.errors import SettingFixed
from shared.security.permissions import Permission


@get(
    "/settings", guards=[may(Permission.ORG_SETTINGS_READ)], summary="Show an organization's settings and their bounds"
)
async def show(
    org_id: FromPath[UUID], run_time_settings: NamedDependency[SettingsService]
) -> Response[Page[SettingView]]:
    """What is the same for all of its orchestrators."""
    views, revision = await run_time_settings.show(org_id, "organization")
    return tagged(whole(views), revision)


@post(
    "/settings",
    guards=[may(Permission.ORG_SETTINGS_WRITE)],
    opt=documented(SettingFixed),
    status_code=200,
    summary="Change some of an organization's settings",
)
async def change(
    org_id: FromPath[UUID],
    data: JSONBody[OrganizationSettingsBody],
    run_time_settings: NamedDependency[SettingsService],
    if_match: IfMatch = None,
) -> Response[Page[SettingView]]:
    changes = {key: SettingChange(value) for key, value in data.settings.items()}
    views, revision = await run_time_settings.change(org_id, "organization", changes, if_match=if_match, whole=False)
    return tagged(whole(views), revision)


@get(
    "/orchestrator-defaults",
    guards=[may(Permission.ORG_SETTINGS_READ)],
    summary="Show what an organization's orchestrators inherit",
)
async def show_defaults(
    org_id: FromPath[UUID], run_time_settings: NamedDependency[SettingsService]
) -> Response[Page[SettingView]]:
    views, revision = await run_time_settings.show(org_id, "instance")
    return tagged(whole(views), revision)


@put(
    "/orchestrator-defaults",
    guards=[may(Permission.ORG_SETTINGS_WRITE)],
    opt=documented(SettingFixed),
    summary="Replace what an organization's orchestrators inherit",
)
async def replace_defaults(
    org_id: FromPath[UUID],
    data: JSONBody[OrchestratorDefaultsBody],
    run_time_settings: NamedDependency[SettingsService],
    if_match: IfMatch = None,
) -> Response[Page[SettingView]]:
    """Orchestrators whose effective configuration changes with it are rebuilt while they go on serving."""
    views, revision = await run_time_settings.change(org_id, "instance", data.settings, if_match=if_match, whole=True)
    return tagged(whole(views), revision)


@get("/", guards=[may(Permission.SYSTEM_SETTINGS_READ)], summary="List every run-time setting")
async def list_all(run_time_settings: NamedDependency[SettingsService]) -> Page[SettingView]:
    return whole(await run_time_settings.show_global())


@patch("/{key:str}", guards=[may(Permission.SYSTEM_SETTINGS_WRITE)], summary="Set a setting for everybody")
async def change_global(
    key: FromPath[str],
    data: JSONBody[GlobalSettingPatch],
    run_time_settings: NamedDependency[SettingsService],
    if_match: IfMatch = None,
) -> Response[SettingView]:
    """Every orchestrator whose effective configuration changes with it is rebuilt while it goes on serving."""
    view = await run_time_settings.change_global(key, data, if_match=if_match)
    return tagged(view, view.revision)


router = Router(
    "/api/orgs/{org_id:uuid}", route_handlers=[show, change, show_defaults, replace_defaults], tags=["settings"]
)
admin_router = Router("/api/admin/settings", route_handlers=[list_all, change_global], tags=["settings"])
