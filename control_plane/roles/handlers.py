from typing import Annotated
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of, whole
from control_plane.roles.built_in import BUILT_IN, BuiltInRole
from control_plane.roles.schemas import HolderBody, HolderView, PermissionView, RoleBody, RolePatch, RoleView
from control_plane.roles.service import RoleService
from control_plane.roles.tables import Role
from shared.errors import AlreadyExists, Conflict, InUse
from shared.security.permissions import ROLE_PERMISSIONS, Permission

UserId = Annotated[UUID, QueryParameter(name="user_id")]
OrgId = Annotated[UUID | None, QueryParameter(name="org_id", description="For a role of an organization.")]


@get("/permissions", guards=[may(Permission.SYSTEM_ROLES_READ)], summary="List every permission there is")
async def list_permissions() -> Page[PermissionView]:
    def view(permission: Permission) -> PermissionView:
        holders = [role.name for role in BUILT_IN if permission in ROLE_PERMISSIONS[role.name]]
        return PermissionView(permission, permission.is_of_system, [str(name) for name in holders])

    return whole([view(permission) for permission in Permission])


@post("/roles", guards=[may(Permission.SYSTEM_ROLES_WRITE)], opt=documented(AlreadyExists), summary="Create a role")
async def create(
    data: JSONBody[RoleBody], principal: NamedDependency[Principal], roles: NamedDependency[RoleService]
) -> Response[RoleView]:
    """Nobody makes a role that holds more than they do themselves."""
    role = await roles.create(data, by=principal.grant)
    return tagged(RoleView.of(role), role.revision, status_code=201)


@get("/roles", guards=[may(Permission.SYSTEM_ROLES_READ)], summary="List roles, the built-in ones first")
async def list_all(
    roles: NamedDependency[RoleService], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[RoleView]:
    rows = await roles.page(after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda role: role.id, show=RoleView.of)


@get("/roles/{role_id:uuid}", guards=[may(Permission.SYSTEM_ROLES_READ)], summary="Show a role")
async def get_one(role_id: FromPath[UUID], roles: NamedDependency[RoleService]) -> Response[RoleView]:
    return _shown(await roles.get(role_id))


@patch(
    "/roles/{role_id:uuid}",
    guards=[may(Permission.SYSTEM_ROLES_WRITE)],
    opt=documented(AlreadyExists, Conflict),
    summary="Change a custom role",
)
async def change(
    role_id: FromPath[UUID],
    data: JSONBody[RolePatch],
    principal: NamedDependency[Principal],
    roles: NamedDependency[RoleService],
    if_match: IfMatch = None,
) -> Response[RoleView]:
    """It counts on the very next request of everybody who holds the role."""
    return _shown(await roles.change(role_id, data, by=principal.grant, if_match=if_match))


@delete(
    "/roles/{role_id:uuid}",
    guards=[may(Permission.SYSTEM_ROLES_WRITE)],
    opt=documented(Conflict, InUse),
    summary="Delete a custom role nobody holds",
)
async def remove(role_id: FromPath[UUID], roles: NamedDependency[RoleService], if_match: IfMatch = None) -> None:
    await roles.delete(role_id, if_match=if_match)


@get(
    "/roles/{role_id:uuid}/users",
    guards=[may(Permission.SYSTEM_ROLES_READ)],
    opt=documented(Conflict),
    summary="List who holds a custom role",
)
async def list_holders(
    role_id: FromPath[UUID],
    roles: NamedDependency[RoleService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[HolderView]:
    rows = await roles.holders(role_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda row: row[0].id, show=lambda row: HolderView.of(*row))


@post(
    "/roles/{role_id:uuid}/users",
    guards=[may(Permission.SYSTEM_ROLES_WRITE)],
    opt=documented(AlreadyExists, Conflict),
    summary="Give a custom role to a user",
)
async def give(
    role_id: FromPath[UUID],
    data: JSONBody[HolderBody],
    principal: NamedDependency[Principal],
    roles: NamedDependency[RoleService],
) -> HolderView:
    """It counts on the user's very next request. Nobody gives what they do not hold themselves."""
    return HolderView.of(*await roles.give(role_id, data.user_id, data.org_id, by=principal.grant))


@delete(
    "/roles/{role_id:uuid}/users",
    guards=[may(Permission.SYSTEM_ROLES_WRITE)],
    opt=documented(Conflict),
    summary="Take a custom role from a user",
)
async def take(
    role_id: FromPath[UUID], roles: NamedDependency[RoleService], user_id: UserId, org_id: OrgId = None
) -> None:
    """It is gone on the user's very next request."""
    await roles.take(role_id, user_id, org_id)


def _shown(role: Role | BuiltInRole) -> Response[RoleView]:
    view = RoleView.of(role)
    return Response(view) if isinstance(role, BuiltInRole) else tagged(view, role.revision)


router = Router(
    "/api/admin",
    route_handlers=[list_permissions, create, list_all, get_one, change, remove, list_holders, give, take],
    tags=["roles"],
)
