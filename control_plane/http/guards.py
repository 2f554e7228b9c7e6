"""Who may call: guards for handlers, and the principal they leave for them.

Every handler has exactly one of `guards=[may(...)]`, `[signed_in]`, `[session_only]`, `[refreshing]` or
`[public]`; a test holds that.
"""

from typing import Any

import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from control_plane.wiring import Resources
from shared.errors import NotAuthenticated
from shared.limits import Charge
from shared.logging import get_logger
from shared.security.permissions import Permission
from shared.security.principals import API_KEY_HEADER, Principal

__all__ = ["Connection", "Principal", "may", "provide_principal", "public", "refreshing", "session_only", "signed_in"]

log = get_logger(__name__)

_CHARGE = Charge("api")
_CREDENTIALS = frozenset({b"authorization", API_KEY_HEADER.encode()})

Connection = ASGIConnection[Any, Any, Any, Any]


class _PermissionGuard:
    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        grant = (await _authenticate(connection)).grant
        grant.require(self.permission)
        if not (grant.is_sys_admin or self.permission.is_of_system):
            grant.require_active_organization()
        connection.scope["state"]["admission"].require()


def may(permission: Permission) -> _PermissionGuard:
    """Require a permission: in the organization of the path's `org_id` when there is one, else in the system.

    A member of a suspended organization gets OrganizationSuspended; the platform's own people still get in to look
    after it.
    """
    return _PermissionGuard(permission)


async def signed_in(connection: Connection, _: BaseRouteHandler) -> None:
    """Require a living session or an API key, and nothing more."""
    principal = await _authenticate(connection)
    if not principal.grant.is_alive:
        raise NotAuthenticated
    principal.admission.require()


async def session_only(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require a living session: what is about sessions has nothing to say to an API key."""
    await signed_in(connection, handler)
    if connection.scope["state"]["principal"].session_id is None:
        raise NotAuthenticated


async def refreshing(connection: Connection, handler: BaseRouteHandler) -> None:
    """Require a living session. One that was exchanged before ends everything that came of the same login."""
    try:
        await session_only(connection, handler)
    except NotAuthenticated:
        resources: Resources = connection.app.state.resources
        _, _, token = connection.headers.get("authorization", "").partition(" ")
        # Raises for what we have not signed: nobody ends a session by making up its id.
        claims = resources.tokens.verify(token.strip())
        if (spent := await resources.sessions.end_if_reused(claims.session_id)) is not None:
            log.warning("session_reused", user_id=str(spent.user_id))
        raise


async def public(_: Connection, __: BaseRouteHandler) -> None:
    """Anybody may call. It only says that this was meant."""


def provide_principal(request: Request[Any, Any, Any]) -> Principal:
    """The principal the handler's guard found."""
    principal = request.scope["state"]["principal"]
    assert isinstance(principal, Principal)  # noqa: S101 - a handler that asks for it without a guard is a bug
    return principal


def _credentials(connection: Connection) -> dict[str, str]:
    """The headers that say who calls. Most requests are asked for no others, and so never need all of them decoded."""
    # The first of several counts, as in Litestar's own.
    headers = reversed([*connection.scope["headers"]])
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in _CREDENTIALS}


async def _authenticate(connection: Connection) -> Principal:
    """Raises NotAuthenticated."""
    resources: Resources = connection.app.state.resources
    principal = await resources.authenticator.identify(
        _credentials(connection), connection.path_params.get("org_id"), _CHARGE
    )
    connection.scope["state"]["principal"] = principal
    connection.scope["state"]["admission"] = principal.admission
    logged = {"user_id": str(principal.user_id)}
    if principal.api_key:
        logged["api_key_id"] = str(principal.api_key.key_id)
    if principal.grant.org_id:
        logged["org_id"] = str(principal.grant.org_id)
    structlog.contextvars.bind_contextvars(**logged)
    return principal
