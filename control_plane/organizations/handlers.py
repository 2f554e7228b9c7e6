from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may, signed_in
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.organizations.schemas import (
    OrganizationBody,
    OrganizationPatch,
    OrganizationView,
    ProfilePatch,
    QuotaView,
)
from control_plane.organizations.service import OrganizationService
from shared.errors import AlreadyExists
from shared.security.permissions import Permission


@get("/", guards=[signed_in], summary="List the organizations I can see, with my role")
async def list_mine(
    principal: NamedDependency[Principal],
    organizations: NamedDependency[OrganizationService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[OrganizationView]:
    """A sys_admin sees all of them, everybody else those they belong to."""
    after = decode_id_cursor(cursor)
    if principal.grant.is_sys_admin:
        every = await organizations.page(after=after, limit=limit)
        return page_of(every, limit, key=lambda o: o.id, show=lambda o: OrganizationView.of(o, "sys_admin"))
    rows = await organizations.page_of_member(principal.user_id, only=principal.only_org_id, after=after, limit=limit)
    return page_of(rows, limit, key=lambda row: row[0].id, show=lambda row: OrganizationView.of(*row))


@get("/{org_id:uuid}", guards=[may(Permission.ORG_READ)], summary="Show an organization")
async def get_one(
    org_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    organizations: NamedDependency[OrganizationService],
) -> Response[OrganizationView]:
    organization = await organizations.get(org_id)
    return tagged(OrganizationView.of(organization, principal.grant.role or UNSET), organization.revision)


@patch("/{org_id:uuid}/profile", guards=[may(Permission.ORG_WRITE)], summary="Change an organization's profile")
async def change_profile(
    org_id: FromPath[UUID],
    data: JSONBody[ProfilePatch],
    principal: NamedDependency[Principal],
    organizations: NamedDependency[OrganizationService],
    if_match: IfMatch = None,
) -> Response[OrganizationView]:
    organization = await organizations.change(org_id, data, if_match=if_match)
    return tagged(OrganizationView.of(organization, principal.grant.role or UNSET), organization.revision)


@post(
    "/",
    guards=[may(Permission.SYSTEM_ORGS_CREATE)],
    opt=documented(AlreadyExists),
    summary="Create an organization",
)
async def create(
    data: JSONBody[OrganizationBody], organizations: NamedDependency[OrganizationService]
) -> Response[OrganizationView]:
    organization = await organizations.create(data)
    return tagged(OrganizationView.of(organization), organization.revision, status_code=201)


@get("/", guards=[may(Permission.SYSTEM_ADMIN)], summary="List all organizations")
async def list_all(
    organizations: NamedDependency[OrganizationService], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[OrganizationView]:
    rows = await organizations.page(after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda o: o.id, show=OrganizationView.of)


@get("/{org_id:uuid}", guards=[may(Permission.SYSTEM_ADMIN)], summary="Show any organization")
async def get_any(
    org_id: FromPath[UUID], organizations: NamedDependency[OrganizationService]
) -> Response[OrganizationView]:
    organization = await organizations.get(org_id)
    return tagged(OrganizationView.of(organization), organization.revision)


@get("/{org_id:uuid}/quota", guards=[may(Permission.SYSTEM_ADMIN)], summary="What an organization has and may have")
async def get_quota(org_id: FromPath[UUID], organizations: NamedDependency[OrganizationService]) -> QuotaView:
    return await organizations.quota(org_id)


@patch(
    "/{org_id:uuid}",
    guards=[may(Permission.SYSTEM_ADMIN)],
    opt=documented(AlreadyExists),
    summary="Change an organization, its tier or its status",
)
async def change(
    org_id: FromPath[UUID],
    data: JSONBody[OrganizationPatch],
    organizations: NamedDependency[OrganizationService],
    if_match: IfMatch = None,
) -> Response[OrganizationView]:
    organization = await organizations.change(org_id, data, if_match=if_match)
    return tagged(OrganizationView.of(organization), organization.revision)


@delete("/{org_id:uuid}", guards=[may(Permission.SYSTEM_ADMIN)], summary="Delete an organization")
async def remove(
    org_id: FromPath[UUID], organizations: NamedDependency[OrganizationService], if_match: IfMatch = None
) -> None:
    await organizations.delete(org_id, if_match=if_match)


router = Router("/api/orgs", route_handlers=[list_mine, get_one, change_profile], tags=["organizations"])
admin_router = Router(
    "/api/admin/orgs", route_handlers=[create, list_all, get_any, get_quota, change, remove], tags=["organizations"]
)
