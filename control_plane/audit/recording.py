"""What becomes an entry: every change that somebody known makes, in the transaction that makes it, and every one that
an administrator is refused.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.chain import append, entry
from control_plane.database.changes import RowChange, take_changes
from control_plane.database.direct import is_flushed
from control_plane.database.statements import Question
from control_plane.http.addresses import client_address
from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import Principal
from control_plane.http.idempotency import REPLAYED
from control_plane.wiring import Resources
from shared.logging import get_logger

log = get_logger(__name__)

_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NOT_A_CHANGE = frozenset({"/api/auth/refresh"})
_RECORDED = "audit_recorded"


async def entry_of_changes(request: AnyRequest, session: AsyncSession) -> tuple[Question, ...]:
    """What adds the entry for all that the session is about to commit, to be asked right before: it locks the end of
    the chain. Nothing where there is none.
    """
    changes = take_changes(session)
    principal = _who_changes(request.scope)
    if principal is None:
        return ()
    if not is_flushed(session):
        await session.flush()
        changes.extend(take_changes(session))
    request.scope["state"][_RECORDED] = True
    return entry(_chain_of(principal), _entry(request, principal, None, changes))


def _chain_of(principal: Principal) -> UUID | None:
    return principal.grant.org_id if principal.grant.org_status else None


class AuditTrail:
    """Writes the entries that no transaction wrote: of refusals, and of changes outside of PostgreSQL."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") not in _CHANGING:
            await self._app(scope, receive, send)
            return

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                status, principal = message["status"], _who_changes(scope)
                if principal is not None and _counts(scope, principal, status) and not _is_replayed(message["headers"]):
                    await _record_apart(Request(scope), principal, status if status >= 400 else None)
            await send(message)

        await self._app(scope, receive, send_recorded)


def _who_changes(scope: Scope) -> Principal | None:
    principal = scope.get("state", {}).get("principal")
    is_change = scope.get("method") in _CHANGING and scope["path"] not in _NOT_A_CHANGE
    return principal if is_change and isinstance(principal, Principal) else None


def _counts(scope: Scope, principal: Principal, status: int) -> bool:
    if status < 400:
        return not scope["state"].get(_RECORDED)
    # What a member is refused is everyday; an administrator who is refused wanted to change more than they may.
    return status < 500 and (principal.grant.role in ("org_admin", "sys_admin") or bool(principal.grant.custom))


def _is_replayed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.decode().lower() == REPLAYED.lower() for name, _ in headers)


async def _record_apart(request: Request[Any, Any, Any], principal: Principal, refused_with: int | None) -> None:
    resources: Resources = request.scope["litestar_app"].state.resources
    # Where the caller has no place the organization is not told: its id may be made up. The platform is.
    org_id = principal.grant.org_id if principal.grant.role else None
    try:
        async with resources.database(org_id) as session:
            await append(session, org_id, _entry(request, principal, refused_with, []))
            await session.commit()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.error("audit_entry_lost", path=request.url.path, refused_with=refused_with, reason=type(error).__name__)


def _entry(
    request: Request[Any, Any, Any], principal: Principal, refused_with: int | None, changes: list[RowChange]
) -> dict[str, Any]:
    resources: Resources = request.scope["litestar_app"].state.resources
    at: datetime = resources.clock.now()
    key_id: UUID | None = principal.api_key.key_id if principal.api_key else None
    return {
        "at": at,
        "actor_id": principal.user_id,
        "actor": principal.grant.username,
        "api_key_id": key_id,
        "address": client_address(request, resources.settings.trusted_proxies),
        "request_id": request.scope["state"].get("request_id", ""),
        "method": request.scope["method"],
        "route": str(request.scope.get("path_template", "")),
        "resource": request.scope["path"][:500],
        "refused_with": refused_with,
        "changes": msgspec.to_builtins(changes),
    }
