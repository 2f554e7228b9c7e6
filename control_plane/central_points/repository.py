"""Queries for the central points of one organization."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.central_points.tables import CentralPoint
from control_plane.database.direct import look, run
from control_plane.database.locks import definitions_lock
from control_plane.database.rows import Pages, columns_of, opened, revise_last, store_last
from control_plane.database.statements import Statement
from control_plane.events.outbox import recorded_with
from control_plane.orchestrators.tables import Orchestrator
from shared.errors import NotFound
from shared.events import AnyEvent

_LIVING = select(*columns_of(CentralPoint)).where(
    CentralPoint.org_id == bindparam("its_org_id"), CentralPoint.is_deleted.is_(False)
)
_POINT = Statement(_LIVING.where(CentralPoint.id == bindparam("its_id")))
_POINT_FOR_UPDATE = Statement(_LIVING.where(CentralPoint.id == bindparam("its_id")).with_for_update())
_PAGES = Pages(CentralPoint, _LIVING)


class CentralPointRepository:
    """Living ones only."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, org_id: UUID, central_id: UUID) -> CentralPoint:
        """Raises NotFound."""
        found = await look(self._session, _POINT(its_org_id=org_id, its_id=central_id))
        if not found:
            raise NotFound
        return opened(self._session, CentralPoint, found[0])

    async def get_for_change(self, org_id: UUID, central_id: UUID) -> CentralPoint:
        """One that nobody else changes until the transaction ends, and neither the orchestrators that it may point at.

        Raises NotFound.
        """
        asked = _POINT_FOR_UPDATE(its_org_id=org_id, its_id=central_id)
        _, found = await run(self._session, definitions_lock(org_id), asked)
        if not found:
            raise NotFound
        return opened(self._session, CentralPoint, found[0])

    async def revise_last(self, point: CentralPoint, told: AnyEvent) -> None:
        """Store it at its next revision, which `told` tells of, and end the transaction. Raises IntegrityError."""
        await revise_last(self._session, point, recorded_with(told))

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[CentralPoint]:
        """One more than `limit`, to tell whether there are more."""
        rows = await look(self._session, _PAGES.question(after=after, limit=limit, its_org_id=org_id))
        return [opened(self._session, CentralPoint, row) for row in rows]

    async def can_be_pointed_at(self, org_id: UUID, instance_id: UUID) -> bool:
        """Whether it is an orchestrator of the organization that is neither deleted nor deactivated."""
        query = select(Orchestrator.id).where(
            Orchestrator.org_id == org_id,
            Orchestrator.id == instance_id,
            Orchestrator.is_deleted.is_(False),
            Orchestrator.status != "inactive",
        )
        return (await self._session.execute(query)).scalar_one_or_none() is not None

    async def add_last(self, point: CentralPoint) -> None:
        """Store a new one and end the transaction. Raises IntegrityError."""
        await store_last(self._session, point)
