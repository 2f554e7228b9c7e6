"""What each tier allows. They are shown, not enforced: nothing is refused for a quota yet."""

import msgspec

from control_plane.organizations.schemas import QuotaView, TierName, UsageView
from control_plane.organizations.tables import Organization


class Counts(msgspec.Struct, frozen=True):
    """What an organization has right now. Deleted things and deactivated orchestrators do not count."""

    orchestrators: int
    members: int
    llm_configs: int
    plugins: int


class TierLimits(msgspec.Struct, frozen=True):
    """None is unlimited."""

    orchestrators: int | None
    members: int | None
    llm_configs: int | None


TIERS: dict[TierName, TierLimits] = {
    "free": TierLimits(orchestrators=1, members=3, llm_configs=1),
    "plus": TierLimits(orchestrators=3, members=10, llm_configs=3),
    "pro": TierLimits(orchestrators=10, members=25, llm_configs=10),
    "premium": TierLimits(orchestrators=25, members=100, llm_configs=25),
    "business": TierLimits(orchestrators=100, members=500, llm_configs=100),
    "enterprise": TierLimits(orchestrators=None, members=None, llm_configs=None),
}


def quota_of(organization: Organization, counts: Counts) -> QuotaView:
    """The counts beside what the organization's tier allows; no tier limits plugins."""
    tier = msgspec.convert(organization.tier, TierName)
    limits = TIERS[tier]
    return QuotaView(
        tier=tier,
        orchestrators=UsageView(counts.orchestrators, limits.orchestrators),
        members=UsageView(counts.members, limits.members),
        llm_configs=UsageView(counts.llm_configs, limits.llm_configs),
        plugins=UsageView(counts.plugins, None),
    )
