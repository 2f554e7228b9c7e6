"""Who may call: guards for handlers, and the principal they leave for them.

Every handler has exactly one of `guards=[may(...)]`, `guards=[signed_in]` or `guards=[public]`; a test holds that.
"""

from typing import Any
from uuid import UUID

import msgspec
import structlog
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from control_plane.wiring import Resources
from shared.errors import NotAuthenticated
from shared.security.grants import Grant
from shared.security.permissions import Permission

Connection = ASGIConnection[Any, Any, Any, Any]


class Principal(msgspec.Struct, frozen=True):
    """Whoever is calling. `grant` is for the organization in the path, or for the system when there is none."""

    user_id: UUID
    session_id: str
    grant: Grant


class _PermissionGuard:
    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        grant = (await _authenticate(connection)).grant
        grant.require(self.permission)
        if not grant.is_sys_admin:
            grant.require_active_organization()


def may(permission: Permission) -> _PermissionGuard:
    """Require a permission: in the organization of the path's `org_id` when there is one, else in the system.

    A member of a suspended organization gets OrganizationSuspended; a sys_admin still gets in to look after it.
    """
    return _PermissionGuard(permission)


async def signed_in(connection: Connection, _: BaseRouteHandler) -> None:
    """Require a living session and nothing more."""
    principal = await _authenticate(connection)
    if not principal.grant.is_alive:
        raise NotAuthenticated


async def public(_: Connection, __: BaseRouteHandler) -> None:
    """Anybody may call. It only says that this was meant."""


def provide_principal(request: Request[Any, Any, Any]) -> Principal:
    """The principal the handler's guard found."""
    principal = request.scope["state"]["principal"]
    assert isinstance(principal, Principal)  # noqa: S101 - a handler that asks for it without a guard is a bug
    return principal


async def _authenticate(connection: Connection) -> Principal:
    """Raises NotAuthenticated. Redis is asked for the session on every request: a token alone proves nothing."""
    resources: Resources = connection.app.state.resources
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    claims = resources.tokens.verify(token.strip())
    session = await resources.sessions.get(claims.session_id)
    if session.user_id != claims.user_id:
        raise NotAuthenticated
    grant = await resources.grants.get(session.user_id, connection.path_params.get("org_id"))
    principal = Principal(session.user_id, session.session_id, grant)
    connection.scope["state"]["principal"] = principal
    structlog.contextvars.bind_contextvars(user_id=str(session.user_id))
    if grant.org_id:
        structlog.contextvars.bind_contextvars(org_id=str(grant.org_id))
    return principal
