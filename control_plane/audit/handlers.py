from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from litestar import Router
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.repository import AuditFilter, AuditRepository
from control_plane.audit.tables import AuditEntry
from control_plane.http.guards import may
from control_plane.http.handlers import get
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from shared.security.permissions import Permission

ActorId = Annotated[UUID | None, QueryParameter(name="actor_id", description="Who did it.")]
Resource = Annotated[
    str | None, QueryParameter(name="resource", max_length=500, description="A path; what is below it counts as well.")
]
Since = Annotated[datetime | None, QueryParameter(name="since", description="From this moment on.")]
Until = Annotated[datetime | None, QueryParameter(name="until", description="Before this moment.")]


class AuditEntryView(msgspec.Struct):
    """`refused_with` is the status of a refusal, null for what was done. `changes` hold rows before and after, secrets
    masked.
    """

    id: UUID
    org_id: UUID | None
    sequence: int
    at: datetime
    actor_id: UUID
    actor: str
    api_key_id: UUID | None
    address: str
    request_id: str
    method: str
    route: str
    resource: str
    refused_with: int | None
    changes: list[dict[str, Any]]
    hash: str

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls(*(getattr(entry, name) for name in cls.__struct_fields__))


@get("/api/orgs/{org_id:uuid}/audit", guards=[may(Permission.ORG_AUDIT_READ)], summary="Who changed what here")
async def of_organization(
    org_id: FromPath[UUID],
    session: NamedDependency[AsyncSession],
    actor_id: ActorId = None,
    resource: Resource = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AuditEntryView]:
    """The newest first. What the platform's own people did to the organization is there as well."""
    wanted = AuditFilter(actor_id, resource, since, until)
    rows = await AuditRepository(session).page(wanted, org_id=org_id, before=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda entry: entry.id, show=AuditEntryView.of)


@get("/api/admin/audit", guards=[may(Permission.SYSTEM_AUDIT_READ)], summary="Who changed what anywhere")
async def of_everybody(
    session: NamedDependency[AsyncSession],
    actor_id: ActorId = None,
    resource: Resource = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AuditEntryView]:
    """The newest first."""
    wanted = AuditFilter(actor_id, resource, since, until)
    rows = await AuditRepository(session).page(wanted, org_id=None, before=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda entry: entry.id, show=AuditEntryView.of)


router = Router("/", route_handlers=[of_organization, of_everybody], tags=["audit"])
