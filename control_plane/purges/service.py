"""Asking for a purge, and what workers are told of it and tell."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.organizations.tables import Organization
from control_plane.plugins.tables import OrgPlugin
from control_plane.purges.tables import OrganizationPurge
from shared.errors import Conflict, NotFound
from shared.purges import PendingPurge, PurgeReport


class PurgeService:
    """For sessions of the platform: organizations that are deleted have none of their own."""

    def __init__(self, *, session: AsyncSession) -> None:
        self._session = session

    async def request(self, org_id: UUID) -> OrganizationPurge:
        """Safe to repeat while it goes on. Raises NotFound, also once it is over, and Conflict."""
        if (pending := await self._session.get(OrganizationPurge, org_id)) is not None:
            return pending
        organization = await self._session.get(Organization, org_id)
        if organization is None:
            raise NotFound
        if not organization.is_deleted:
            raise Conflict("only a deleted organization can be purged")
        row = insert(OrganizationPurge).values(org_id=org_id, let_go_by=[], is_dropped=False)
        await self._session.execute(row.on_conflict_do_nothing())
        return await self.get(org_id)

    async def get(self, org_id: UUID) -> OrganizationPurge:
        """Raises NotFound for one that is over, or was never asked for."""
        if (pending := await self._session.get(OrganizationPurge, org_id)) is None:
            raise NotFound
        return pending

    async def pending(self, live_workers: Collection[str]) -> list[PendingPurge]:
        """Those whose conversations are still to be removed."""
        query = select(OrganizationPurge).where(OrganizationPurge.is_dropped.is_(False))
        rows = (await self._session.scalars(query.order_by(OrganizationPurge.org_id))).all()
        return [
            PendingPurge(row.org_id, await self._digests(row.org_id), may_drop=set(live_workers) <= set(row.let_go_by))
            for row in rows
        ]

    async def hear(self, org_id: UUID, report: PurgeReport) -> None:
        """Note what a worker tells. Raises NotFound."""
        query = select(OrganizationPurge).where(OrganizationPurge.org_id == org_id).with_for_update()
        row = (await self._session.execute(query)).scalar_one_or_none()
        if row is None:
            raise NotFound
        if report.worker_id not in row.let_go_by:
            row.let_go_by = [*row.let_go_by, report.worker_id]
        row.is_dropped = row.is_dropped or report.has_dropped
        await self._session.flush()

    async def dropped(self) -> Sequence[UUID]:
        """Those of which only the rest is left."""
        query = select(OrganizationPurge.org_id).where(OrganizationPurge.is_dropped)
        return (await self._session.scalars(query)).all()

    async def _digests(self, org_id: UUID) -> tuple[str, ...]:
        query = select(OrgPlugin.digest).where(OrgPlugin.org_id == org_id).order_by(OrgPlugin.digest)
        return tuple((await self._session.scalars(query)).all())
