from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.members.schemas import MemberBody, MembershipPatch, MemberView
from control_plane.members.service import MemberService
from shared.errors import AlreadyExists, LastAdmin, QuotaReached
from shared.security.permissions import Permission


@post(
    "/members",
    guards=[may(Permission.ORG_MEMBERS_WRITE)],
    opt=documented(AlreadyExists, QuotaReached),
    summary="Add an existing user",
)
async def add_member(
    org_id: FromPath[UUID],
    data: JSONBody[MemberBody],
    principal: NamedDependency[Principal],
    members: NamedDependency[MemberService],
) -> Response[MemberView]:
    await members.add(org_id, data.user_id, is_admin=data.is_admin, by=principal.grant)
    user, membership = await members.get(org_id, data.user_id)
    return tagged(MemberView.of(user, membership), membership.revision, status_code=201)


@get("/users", guards=[may(Permission.ORG_MEMBERS_READ)], summary="List members")
async def list_members(
    org_id: FromPath[UUID],
    members: NamedDependency[MemberService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[MemberView]:
    rows = await members.page(org_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda row: row[0].id, show=lambda row: MemberView.of(*row))


@get("/users/{user_id:uuid}", guards=[may(Permission.ORG_MEMBERS_READ)], summary="Show a member")
async def get_member(
    org_id: FromPath[UUID], user_id: FromPath[UUID], members: NamedDependency[MemberService]
) -> Response[MemberView]:
    user, membership = await members.get(org_id, user_id)
    return tagged(MemberView.of(user, membership), membership.revision)


@patch(
    "/users/{user_id:uuid}/membership",
    guards=[may(Permission.ORG_MEMBERS_WRITE)],
    opt=documented(LastAdmin),
    summary="Make a member admin, or no longer",
)
async def change_membership(
    org_id: FromPath[UUID],
    user_id: FromPath[UUID],
    data: JSONBody[MembershipPatch],
    principal: NamedDependency[Principal],
    members: NamedDependency[MemberService],
    if_match: IfMatch = None,
) -> Response[MemberView]:
    user, membership = await members.change(
        org_id, user_id, is_admin=data.is_admin, by=principal.grant, if_match=if_match
    )
    return tagged(MemberView.of(user, membership), membership.revision)


@delete(
    "/users/{user_id:uuid}",
    guards=[may(Permission.ORG_MEMBERS_WRITE)],
    opt=documented(LastAdmin),
    summary="Remove a member",
)
async def remove_member(
    org_id: FromPath[UUID],
    user_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    members: NamedDependency[MemberService],
    if_match: IfMatch = None,
) -> None:
    await members.remove(org_id, user_id, by=principal.grant, if_match=if_match)


router = Router(
    "/api/orgs/{org_id:uuid}",
    route_handlers=[add_member, list_members, get_member, change_membership, remove_member],
    tags=["members"],
)
