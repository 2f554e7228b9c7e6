from collections.abc import Sequence
from uuid import UUID

from litestar import Router
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.http.guards import Principal, may, session_only
from control_plane.http.handlers import delete, get
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, page_of
from control_plane.sessions.schemas import SessionView
from control_plane.users.service import UserService
from control_plane.wiring import Resources
from shared.errors import NotFound
from shared.security.permissions import Permission
from shared.security.sessions import Session


@get("/", guards=[session_only], summary="List where I am logged in")
async def list_mine(
    principal: NamedDependency[Principal],
    resources: NamedDependency[Resources],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[SessionView]:
    """The latest login first."""
    found = await resources.sessions.of_user(principal.user_id)
    return _page(found, cursor, limit, current=principal.session_id)


@delete("/{session_id:str}", guards=[session_only], summary="Log out one of my sessions")
async def end_mine(
    session_id: FromPath[str], principal: NamedDependency[Principal], resources: NamedDependency[Resources]
) -> None:
    """Its token is refused on the very next request."""
    # Looked for among the caller's own, since anybody's could be ended by its id.
    if all(session.session_id != session_id for session in await resources.sessions.of_user(principal.user_id)):
        raise NotFound
    await resources.sessions.end(session_id, principal.user_id)


@get("/", guards=[may(Permission.SYSTEM_USERS_READ)], summary="List where a user is logged in")
async def list_of_user(
    user_id: FromPath[UUID],
    users: NamedDependency[UserService],
    resources: NamedDependency[Resources],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[SessionView]:
    await users.get(user_id)
    return _page(await resources.sessions.of_user(user_id), cursor, limit)


@delete("/", guards=[may(Permission.SYSTEM_USERS_WRITE)], summary="Log a user out everywhere")
async def end_of_user(
    user_id: FromPath[UUID],
    principal: NamedDependency[Principal],
    users: NamedDependency[UserService],
    resources: NamedDependency[Resources],
) -> None:
    """The user's API keys go on working; they are revoked one by one."""
    principal.grant.require_all((await resources.grants.get(user_id)).permissions)
    await users.get(user_id)
    await resources.sessions.end_all(user_id)


def _page(found: Sequence[Session], cursor: str | None, limit: int, current: str | None = None) -> Page[SessionView]:
    """Session ids are ULIDs: their order is that of the logins."""
    after = decode_cursor(cursor, str)
    rows = sorted(found, key=lambda session: session.session_id, reverse=True)
    rows = [session for session in rows if after is None or session.session_id < after]
    return page_of(
        rows[: limit + 1], limit, key=lambda s: s.session_id, show=lambda session: SessionView.of(session, current)
    )


router = Router("/api/me/sessions", route_handlers=[list_mine, end_mine], tags=["sessions"])
admin_router = Router(
    "/api/admin/users/{user_id:uuid}/sessions", route_handlers=[list_of_user, end_of_user], tags=["sessions"]
)
