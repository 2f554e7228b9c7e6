"""Whether an organization may have one more of something."""

from uuid import UUID

from control_plane.tiers.repository import TierRepository
from control_plane.tiers.schemas import COUNTED, Counted, UsageView
from control_plane.tiers.tables import Tier
from shared.errors import QuotaReached


class Quota:
    def __init__(self, tiers: TierRepository) -> None:
        self._tiers = tiers

    async def check(self, what: Counted, org_id: UUID) -> None:
        """Call it in the transaction that makes one more, before the row is added and before `next_revision`; of two
        that make the last one at once, the second waits here for the first. Raises QuotaReached, NotFound.
        """
        tier, limit = await self._tiers.limit_of(org_id, what)
        if limit is None:
            return
        if await self._tiers.count_alone(org_id, what) >= limit:
            raise QuotaReached(f"the tier {tier} has room for {limit} {what.replace('_', ' ')}")

    async def tier(self, org_id: UUID) -> Tier:
        """Raises NotFound."""
        return await self._tiers.of_organization(org_id)

    async def use(self, org_id: UUID) -> dict[Counted, UsageView]:
        """What the organization has beside what its tier allows. Raises NotFound."""
        tier = await self._tiers.of_organization(org_id)
        counts = await self._tiers.counts(org_id)
        return {what: UsageView(counts[what], getattr(tier, what)) for what in COUNTED}
