"""Central points: one stable address per purpose, and whichever orchestrator serves it at the moment."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.central_points.repository import CentralPointRepository
from control_plane.central_points.schemas import CentralPointBody, CentralPointPatch
from control_plane.central_points.tables import CentralPoint
from control_plane.database.locks import lock_definitions
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.events.outbox import record
from control_plane.tiers.quota import Quota
from shared.clock import Clock
from shared.errors import FieldError, InvalidRequest
from shared.events import CentralPointChanged
from shared.ids import new_id


class CentralPointService:
    def __init__(self, *, session: AsyncSession, points: CentralPointRepository, clock: Clock, quota: Quota) -> None:
        self._session = session
        self._points = points
        self._clock = clock
        self._quota = quota

    async def create(self, org_id: UUID, body: CentralPointBody) -> CentralPoint:
        """Raises InvalidRequest, AlreadyExists, QuotaExceeded."""
        await lock_definitions(self._session, org_id)
        await self._require_instance(org_id, body.instance_id)
        await self._quota.check("central_points", org_id)
        point = CentralPoint(id=new_id(), org_id=org_id, is_deleted=False, **msgspec.structs.asdict(body))
        point.revision = await next_revision(self._session)
        await record(self._session, self._fact(point))
        with _unique():
            await self._points.add_last(point)
        return point

    async def get(self, org_id: UUID, central_id: UUID) -> CentralPoint:
        """Raises NotFound."""
        return await self._points.get(org_id, central_id)

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[CentralPoint]:
        return await self._points.page(org_id, after=after, limit=limit)

    async def change(
        self, org_id: UUID, central_id: UUID, patch: CentralPointPatch, *, if_match: str | None
    ) -> CentralPoint:
        """Raises NotFound, StaleRevision, InvalidRequest, AlreadyExists."""
        point = await self._points.get_for_change(org_id, central_id)
        require_match(if_match, point.revision)
        if patch.instance_id is not UNSET and patch.instance_id != point.instance_id:
            await self._require_instance(org_id, patch.instance_id)
        apply_patch(point, patch)
        await self._revise(point)
        return point

    async def delete(self, org_id: UUID, central_id: UUID, *, if_match: str | None) -> None:
        """Nobody reaches anything through it any more. Raises NotFound, StaleRevision."""
        point = await self._points.get_for_change(org_id, central_id)
        require_match(if_match, point.revision)
        point.is_deleted = True
        await self._revise(point)

    async def _require_instance(self, org_id: UUID, instance_id: UUID) -> None:
        if not await self._points.can_be_pointed_at(org_id, instance_id):
            message = "no orchestrator of this organization has this id, or it is deactivated"
            raise InvalidRequest(errors=(FieldError("instance_id", "unknown", message),))

    async def _revise(self, point: CentralPoint) -> None:
        with _unique():
            await self._points.revise_last(point, self._fact(point))

    def _fact(self, point: CentralPoint) -> CentralPointChanged:
        return CentralPointChanged(
            event_id=new_id(),
            revision=point.revision,
            occurred_at=self._clock.now(),
            org_id=point.org_id,
            central_id=point.id,
        )


def _unique() -> AbstractContextManager[None]:
    return violations({"uq_central_points_name_living": taken("name", "this name")})
