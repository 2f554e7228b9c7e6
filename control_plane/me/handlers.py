from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import UNSET

from control_plane.http.addresses import client_address
from control_plane.http.bodies import AnyRequest
from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import Principal, may, signed_in
from control_plane.http.handlers import get, patch
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from control_plane.me.schemas import MeView, MyProfilePatch
from control_plane.organizations.schemas import OrganizationView
from control_plane.organizations.service import OrganizationService
from control_plane.users.schemas import UserPatch
from control_plane.users.service import UserService
from control_plane.wiring import Resources
from shared.errors import AlreadyExists, RateLimited
from shared.security.permissions import Permission


@get("/", guards=[may(Permission.PROFILE_READ)], summary="Who I am")
async def me(principal: NamedDependency[Principal], users: NamedDependency[UserService]) -> Response[MeView]:
    user = await users.get(principal.user_id)
    return tagged(MeView.of(user), user.revision)


@get("/orgs", guards=[signed_in], summary="The organizations I belong to")
async def my_organizations(
    principal: NamedDependency[Principal],
    organizations: NamedDependency[OrganizationService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[OrganizationView]:
    rows = await organizations.page_of_member(
        principal.user_id, only=principal.only_org_id, after=decode_id_cursor(cursor), limit=limit
    )
    return page_of(rows, limit, key=lambda row: row[0].id, show=lambda row: OrganizationView.of(*row))


@patch(
    "/profile",
    guards=[may(Permission.PROFILE_WRITE)],
    opt=documented(AlreadyExists, RateLimited),
    summary="Change my profile",
)
async def change_my_profile(
    data: JSONBody[MyProfilePatch],
    request: AnyRequest,
    principal: NamedDependency[Principal],
    users: NamedDependency[UserService],
    resources: NamedDependency[Resources],
    if_match: IfMatch = None,
) -> Response[MeView]:
    user = await users.change_profile(
        principal.user_id,
        UserPatch(email=data.email, display_name=data.display_name, password=data.new_password),
        current_password=None if data.current_password is UNSET else data.current_password,
        session_id=principal.session_id,
        address=client_address(request, resources.settings.trusted_proxies),
        if_match=if_match,
    )
    return tagged(MeView.of(user), user.revision)


router = Router("/api/me", route_handlers=[me, my_organizations, change_my_profile], tags=["me"])
