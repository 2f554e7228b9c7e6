from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.members.schemas import MemberUserBody, MemberView
from control_plane.members.service import MemberService
from control_plane.users.schemas import UserBody, UserPatch, UserView
from control_plane.users.service import UserService
from control_plane.wiring import Resources
from shared.errors import AlreadyExists, Conflict, LastAdmin, PermissionMissing, QuotaReached
from shared.security.permissions import Permission


@post("/users", guards=[may(Permission.SYSTEM_USERS_WRITE)], opt=documented(AlreadyExists), summary="Create a user")
async def create_user(
    data: JSONBody[UserBody], principal: NamedDependency[Principal], users: NamedDependency[UserService]
) -> Response[UserView]:
    _require_sys_admin_for(data.is_sys_admin, principal)
    user = await users.create(
        username=data.username,
        password=data.password,
        email=data.email,
        display_name=data.display_name,
        is_sys_admin=data.is_sys_admin,
    )
    return tagged(UserView.of(user), user.revision, status_code=201)


@get("/users", guards=[may(Permission.SYSTEM_USERS_READ)], summary="List users")
async def list_users(
    users: NamedDependency[UserService], limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[UserView]:
    rows = await users.page(after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda user: user.id, show=UserView.of)


@get("/users/{user_id:uuid}", guards=[may(Permission.SYSTEM_USERS_READ)], summary="Show a user")
async def get_user(user_id: FromPath[UUID], users: NamedDependency[UserService]) -> Response[UserView]:
    user = await users.get(user_id)
    return tagged(UserView.of(user), user.revision)


@patch(
    "/users/{user_id:uuid}",
    guards=[may(Permission.SYSTEM_USERS_WRITE)],
    opt=documented(AlreadyExists, Conflict),
    summary="Change a user",
)
async def change_user(
    user_id: FromPath[UUID],
    data: JSONBody[UserPatch],
    principal: NamedDependency[Principal],
    users: NamedDependency[UserService],
    resources: NamedDependency[Resources],
    if_match: IfMatch = None,
) -> Response[UserView]:
    _require_sys_admin_for(data.is_sys_admin is True, principal)
    await _require_standing_over(user_id, principal, resources)
    user = await users.change(user_id, data, if_match=if_match)
    return tagged(UserView.of(user), user.revision)


@delete(
    "/users/{user_id:uuid}",
    guards=[may(Permission.SYSTEM_USERS_WRITE)],
    opt=documented(Conflict, LastAdmin),
    summary="Delete a user and end their sessions",
)
async def delete_user(
    user_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    users: NamedDependency[UserService],
    resources: NamedDependency[Resources],
    if_match: IfMatch = None,
) -> None:
    await _require_standing_over(user_id, principal, resources)
    await users.delete(user_id, if_match=if_match)


@post(
    "/orgs/{org_id:uuid}/users",
    guards=[may(Permission.SYSTEM_USERS_WRITE)],
    opt=documented(AlreadyExists, QuotaReached),
    summary="Create a user in an organization",
)
async def create_user_in_organization(
    org_id: FromPath[UUID],
    data: JSONBody[MemberUserBody],
    principal: NamedDependency[Principal],
    users: NamedDependency[UserService],
    members: NamedDependency[MemberService],
) -> Response[MemberView]:
    user = await users.create(
        username=data.username, password=data.password, email=data.email, display_name=data.display_name
    )
    membership = await members.add(org_id, user.id, is_admin=data.is_admin, by=principal.grant)
    return tagged(MemberView.of(user, membership), membership.revision, status_code=201)


def _require_sys_admin_for(is_sys_admin: bool, principal: Principal) -> None:
    """Whoever may write users could otherwise make themselves what they are not."""
    if is_sys_admin and not principal.grant.is_sys_admin:
        raise PermissionMissing("only a sys_admin makes another one")


async def _require_standing_over(user_id: UUID, principal: Principal, resources: Resources) -> None:
    """Whoever sets the password of another can be them, so the other must not hold more in the system."""
    principal.grant.require_all((await resources.grants.get(user_id)).permissions)


router = Router(
    "/api/admin",
    route_handlers=[create_user, list_users, get_user, change_user, delete_user, create_user_in_organization],
    tags=["users"],
)
