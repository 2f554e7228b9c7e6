from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.fields import Email, LongText, Name, ShortText, WebUrl
from control_plane.organizations.tables import Organization
from control_plane.tiers.schemas import Budget, TierName, UsageView, dollars
from shared.security.permissions import Role

OrganizationStatus = Literal["active", "suspended"]
Domain = Annotated[str, Meta(max_length=253, pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$(?!\n)")]
Country = Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2")]
TimeZone = Annotated[str, Meta(min_length=1, max_length=64, description="a name of the IANA time zone database")]


class OrganizationBody(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    domain: Domain | None = None
    tier: TierName = "free"
    budget_per_month: Budget | None = None
    display_name: ShortText | None = None
    description: LongText | None = None
    contact_email: Email | None = None
    website: WebUrl | None = None
    logo_url: WebUrl | None = None
    country: Country | None = None
    timezone: TimeZone | None = None


class ProfilePatch(msgspec.Struct, forbid_unknown_fields=True):
    """What an organization says of itself; null removes a value."""

    display_name: ShortText | UnsetType | None = UNSET
    description: LongText | UnsetType | None = UNSET
    contact_email: Email | UnsetType | None = UNSET
    website: WebUrl | UnsetType | None = UNSET
    logo_url: WebUrl | UnsetType | None = UNSET
    country: Country | UnsetType | None = UNSET
    timezone: TimeZone | UnsetType | None = UNSET


class OrganizationPatch(ProfilePatch, forbid_unknown_fields=True):
    """What the platform says of an organization as well. A suspended one can do nothing until it is active again."""

    name: Name | UnsetType = UNSET
    domain: Domain | UnsetType | None = UNSET
    tier: TierName | UnsetType = UNSET
    budget_per_month: Budget | UnsetType | None = UNSET
    status: OrganizationStatus | UnsetType = UNSET


class OrganizationView(msgspec.Struct):
    """`role` is the caller's own, where the answer is about the caller."""

    org_id: UUID
    name: str
    status: OrganizationStatus
    created_at: datetime
    display_name: str | None
    domain: str | None
    tier: TierName
    budget_per_month: float | None
    description: str | None
    contact_email: str | None
    website: str | None
    logo_url: str | None
    country: str | None
    timezone: str | None
    role: Role | UnsetType = UNSET

    @classmethod
    def of(cls, organization: Organization, role: Role | UnsetType = UNSET) -> Self:
        others = ("org_id", "role", "budget_per_month")
        fields = {name: getattr(organization, name) for name in cls.__struct_fields__ if name not in others}
        budget = dollars(organization.budget_per_month)
        return cls(org_id=organization.id, role=role, budget_per_month=budget, **fields)


class MoneyView(msgspec.Struct):
    """US dollars that the runs of this month cost, and the budget; null is no limit.

    Models without a price cost nothing here.
    """

    used: float
    limit: float | None


class QuotaView(msgspec.Struct):
    """Days and months are calendar ones, in UTC."""

    tier: TierName
    orchestrators: UsageView
    members: UsageView
    llm_configs: UsageView
    central_points: UsageView
    plugins: UsageView
    concurrent_runs: UsageView
    messages_per_day: UsageView
    messages_per_month: UsageView
    tokens_per_day: UsageView
    tokens_per_month: UsageView
    budget_per_month: MoneyView
    requests_per_minute: int | None
    request_burst: int | None
    chats_per_minute: int | None
    member_requests_per_minute: int | None
