"""Who calls, as the guard of the route has found out."""

from typing import Any
from uuid import UUID

from litestar import Request
from litestar.connection import ASGIConnection

from shared.limits import Admission
from shared.security.grants import Grant

Connection = ASGIConnection[Any, Any, Any, Any]
AnyRequest = Request[Any, Any, Any]


def provide_grant(request: AnyRequest) -> Grant:
    """What the guard found out about the caller."""
    grant = request.scope["state"]["grant"]
    assert isinstance(grant, Grant)  # noqa: S101 - a handler that asks for it without a guard is a bug
    return grant


def api_key_of(request: AnyRequest) -> UUID | None:
    """The id of the key the caller came with, None for a session."""
    key_id: UUID | None = request.scope["state"]["api_key_id"]
    return key_id


def admission_of(request: AnyRequest) -> Admission | None:
    """What the limits said of a request, None for a guest's."""
    admission: Admission | None = request.scope["state"]["admission"]
    return admission


def sees_everything(grant: Grant) -> bool:
    """Whether the caller sees all conversations and runs of the organization, or only their own."""
    return grant.role in ("org_admin", "sys_admin")
