"""Who may call: a guard per handler, and the caller it leaves for it."""

from uuid import UUID

from litestar import Request
from litestar.handlers.base import BaseRouteHandler

from runtime_worker.http.callers import AnyRequest, Connection
from runtime_worker.http.telling import tell_refused
from runtime_worker.wiring import Worker
from shared.errors import DomainError, NotAuthenticated
from shared.ids import new_id
from shared.limits import Charge
from shared.security.permissions import Permission

_REQUEST = Charge("api")


class PermissionGuard:
    def __init__(self, permission: Permission, *, begins_run: bool) -> None:
        self.permission = permission
        self._begins_run = begins_run

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        worker: Worker = connection.app.state.worker
        org_id: UUID = connection.path_params["org_id"]
        charge = Charge("chat", new_id()) if self._begins_run else _REQUEST
        principal = await worker.authenticator.identify(connection.headers, org_id, charge)
        grant = principal.grant
        connection.scope["state"]["admission"] = principal.admission
        connection.scope["state"]["api_key_id"] = principal.api_key.key_id if principal.api_key else None
        try:
            if grant.is_alive and grant.role is not None:
                grant.require_active_organization()
            grant.require(self.permission)
            # Also for whoever is let in by a custom role of the system alone.
            grant.require_active_organization()
        except DomainError as error:
            # Not of more than they may ask at all: each of these is a question to the control plane.
            if not self._begins_run and principal.admission.refusal is None:
                await tell_refused(Request(connection.scope), worker, grant, error)
            raise
        if not self._begins_run:
            principal.admission.require()
        connection.scope["state"]["grant"] = grant


def may(permission: Permission, *, begins_run: bool = False) -> PermissionGuard:
    """Require a living session or an API key, an active organization and a permission in it, in this order.

    The organization is the path's `org_id`. A caller without a place in it gets the same 404 as for one that does not
    exist, also while it is suspended. A route that `begins_run` gives `admission_of` its request to
    `TurnService.start`, where it is the limits' turn to refuse.
    """
    return PermissionGuard(permission, begins_run=begins_run)


async def workers_only(connection: Connection, _: BaseRouteHandler) -> None:
    """Require the token that the planes show each other."""
    worker: Worker = connection.app.state.worker
    scheme, _sep, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not worker.is_worker_token(token.strip()):
        raise NotAuthenticated


async def public(_: Connection, __: BaseRouteHandler) -> None:
    """Anybody may call. It only says that this was meant."""


def provide_worker(request: AnyRequest) -> Worker:
    worker: Worker = request.app.state.worker
    return worker
