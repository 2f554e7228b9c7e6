"""Queries for entries, the newest first."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.audit.tables import AuditEntry


class AuditFilter(msgspec.Struct, frozen=True):
    """What is None does not matter. `resource` is a path, and stands for everything below it as well."""

    actor_id: UUID | None = None
    resource: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(
        self, wanted: AuditFilter, *, org_id: UUID | None, before: UUID | None, limit: int
    ) -> Sequence[AuditEntry]:
        """Up to `limit + 1` entries of an organization, or for None of everybody."""
        query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
        if org_id is not None:
            query = query.where(AuditEntry.org_id == org_id)
        if wanted.actor_id is not None:
            query = query.where(AuditEntry.actor_id == wanted.actor_id)
        if wanted.resource is not None:
            query = query.where(AuditEntry.resource.startswith(wanted.resource, autoescape=True))
        if wanted.since is not None:
            query = query.where(AuditEntry.at >= wanted.since)
        if wanted.until is not None:
            query = query.where(AuditEntry.at < wanted.until)
        if before is not None:
            query = query.where(AuditEntry.id < before)
        return (await self._session.execute(query)).scalars().all()
