"""Who comes to a central point: somebody who may chat in the organization, or, to a public one, anybody."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request
from litestar.handlers.base import BaseRouteHandler

from runtime_worker.http.addresses import client_site
from runtime_worker.http.callers import Connection
from runtime_worker.wiring import Worker
from shared.errors import (
    NotAuthenticated,
    NotFound,
    OrganizationSuspended,
    PermissionMissing,
    StoreUnavailable,
)
from shared.ids import new_id
from shared.limits import Charge
from shared.limits.buckets import Bucket
from shared.security.conversation_tokens import GuestConversation
from shared.security.grants import Grant
from shared.security.permissions import Permission
from shared.snapshots import CentralPointChange

TOKEN_HEADER = "X-Conversation-Token"  # noqa: S105 - the name of a header
NO_KEY = "public"
"""What an OpenAI client without a key sends as one: it cannot send none."""


class Visit(msgspec.Struct, frozen=True):
    """Somebody at a central point. `grant` None is a guest: whoever they are, nobody will know them again."""

    org_id: UUID
    point: CentralPointChange
    grant: Grant | None

    @property
    def is_guest(self) -> bool:
        return self.grant is None


class Guest(msgspec.Struct, frozen=True):
    """Who a turn is for, and which conversation their token is for."""

    grant: Grant
    conversation_id: UUID | None = None


class VisitGuard:
    """Like `may(permission)` for whoever has a place in the organization. Everybody else is a guest at a public point,
    within its limits and the organization's; a private one looks to them as if it did not exist.
    """

    def __init__(self, permission: Permission, *, begins_run: bool = False) -> None:
        self.permission = permission
        self._begins_run = begins_run

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        worker: Worker = connection.app.state.worker
        org_id: UUID = connection.path_params["org_id"]
        central_id: UUID = connection.path_params["central_id"]
        try:
            grant = await self._known(connection, org_id)
        except (NotFound, PermissionMissing, NotAuthenticated) as refusal:
            if isinstance(refusal, NotAuthenticated) and _has_credentials(connection):
                raise
            # Nothing is looked up for strangers: how long that takes would tell what is there.
            point = worker.central_points.find(org_id, central_id)
            if not worker.reconciler.has_caught_up:
                raise StoreUnavailable("the central points are not known here yet") from None
            if point is None or point.visibility != "public" or not await _is_served(worker, org_id):
                raise refusal from None
            await _limit(connection, worker, point)
            # What the organization may is asked for when the turn begins.
            connection.scope["state"]["admission"] = connection.scope["state"]["api_key_id"] = None
            connection.scope["state"]["visit"] = Visit(org_id, point, None)
        else:
            point = await worker.points.get(org_id, central_id)
            connection.scope["state"]["visit"] = Visit(org_id, point, grant)

    async def _known(self, connection: Connection, org_id: UUID) -> Grant:
        if not _has_credentials(connection):
            raise NotAuthenticated
        worker: Worker = connection.app.state.worker
        charge = Charge("chat", new_id()) if self._begins_run else Charge("api")
        principal = await worker.authenticator.identify(connection.headers, org_id, charge)
        grant = principal.grant
        if grant.is_alive and grant.role is not None:
            grant.require_active_organization()
        grant.require(self.permission)
        grant.require_active_organization()
        connection.scope["state"]["admission"] = principal.admission
        if not self._begins_run:
            principal.admission.require()
        connection.scope["state"]["api_key_id"] = principal.api_key.key_id if principal.api_key else None
        return grant


def provide_visit(request: Request[Any, Any, Any]) -> Visit:
    """What the guard found out about the caller."""
    visit = request.scope["state"]["visit"]
    assert isinstance(visit, Visit)  # noqa: S101 - a handler that asks for it without a guard is a bug
    return visit


def who_talks(worker: Worker, visit: Visit, token: str | None, conversation_id: UUID | None) -> Guest:
    """Who a turn of this visit belongs to. A guest goes on with a conversation by its token alone.

    Raises ConversationTokenRefused, and NotFound for a conversation without its token.
    """
    if visit.grant is not None:
        return Guest(visit.grant, conversation_id)
    if not token:
        if conversation_id is not None:
            raise NotFound("no such conversation")
        return Guest(_guest_grant(visit.org_id, new_id()))
    known = worker.conversation_tokens.verify(token, visit.point.central_id)
    if conversation_id not in (None, known.conversation_id):
        raise NotFound("no such conversation")
    return Guest(_guest_grant(visit.org_id, known.user_id), known.conversation_id)


def token_for(worker: Worker, visit: Visit, user_id: UUID, conversation_id: UUID) -> str | None:
    """What a guest goes on with; None for everybody else, who has a session for that."""
    if not visit.is_guest:
        return None
    return worker.conversation_tokens.issue(GuestConversation(visit.point.central_id, conversation_id, user_id))


def _has_credentials(connection: Connection) -> bool:
    if connection.headers.get("x-api-key"):
        return True
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return bool(scheme) and not (scheme.lower() == "bearer" and token.strip() in ("", NO_KEY))


async def _is_served(worker: Worker, org_id: UUID) -> bool:
    """Whether the organization is still there. Raises OrganizationSuspended."""
    state = await worker.organizations.get(org_id)
    if state.status == "suspended":
        raise OrganizationSuspended
    return state.status is not None


async def _limit(connection: Connection, worker: Worker, point: CentralPointChange) -> None:
    """Raises RateLimited."""
    address = client_site(connection, worker.settings.trusted_proxies)
    of_all, of_one = point.requests_per_minute, point.requests_per_minute_per_address
    key = f"guests:{point.central_id}"
    await worker.buckets.take([Bucket(key, of_all, of_all), Bucket(f"{key}:{address}", of_one, of_one)])


def _guest_grant(org_id: UUID, user_id: UUID) -> Grant:
    """May chat and nothing else. By making a point public the organization lets its guests use its model's key."""
    return Grant(
        user_id=user_id,
        org_id=org_id,
        username="",
        is_sys_admin=False,
        is_alive=True,
        role=None,
        is_member=True,
        org_status="active",
        narrowed_to=frozenset({Permission.CHAT_USE}),
    )
