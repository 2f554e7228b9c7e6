"""Tiers, which the platform's operator keeps. A change counts on the next request of every organization."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.commits import around_commit
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.tiers.repository import TierRepository
from control_plane.tiers.schemas import TierPatch
from control_plane.tiers.tables import Tier
from shared.limits.limiter import LimitsInvalidator


class TierService:
    def __init__(self, *, session: AsyncSession, tiers: TierRepository, limits: LimitsInvalidator) -> None:
        self._session = session
        self._tiers = tiers
        self._limits = limits

    async def all(self) -> Sequence[Tier]:
        return await self._tiers.all()

    async def get(self, name: str) -> Tier:
        """Raises NotFound."""
        return await self._tiers.get(name)

    async def change(self, name: str, patch: TierPatch, *, if_match: str | None) -> Tier:
        """What organizations have already they keep. Raises NotFound, StaleRevision."""
        tier = await self._tiers.get(name, for_update=True)
        require_match(if_match, tier.revision)
        apply_patch(tier, patch)
        around_commit(self._session, self._limits.tier_changed)
        with self._session.no_autoflush:
            tier.revision = await next_revision(self._session)
        await self._tiers.flush()
        return tier
