"""The worker token."""

import hmac

from litestar.handlers.base import BaseRouteHandler

from control_plane.http.guards import Connection
from control_plane.wiring import Resources
from shared.errors import NotAuthenticated


async def worker_only(connection: Connection, __: BaseRouteHandler) -> None:
    """Require `Authorization: Bearer <CADENCE_WORKER_TOKEN>`."""
    resources: Resources = connection.app.state.resources
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    expected = resources.settings.security.worker_token
    # Compared as bytes in constant time: how much of a guess was right must not show in the time it takes.
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), expected.encode()):
        raise NotAuthenticated
