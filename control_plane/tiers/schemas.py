from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.tiers.tables import Tier

TierName = Literal["free", "plus", "pro", "premium", "business", "enterprise"]
Counted = Literal["orchestrators", "members", "llm_configs", "central_points", "plugins"]
COUNTED: tuple[Counted, ...] = get_args(Counted)
"""What is counted when one more of it is made."""

MAX_LIMIT = 1_000_000_000_000
Count = Annotated[int, Meta(ge=0, le=MAX_LIMIT)]
Rate = Annotated[int, Meta(ge=1, le=1_000_000)]
Budget = Annotated[float, Meta(ge=0, le=10_000_000, description="US dollars in a calendar month, UTC; null: no limit")]


class TierPatch(msgspec.Struct, forbid_unknown_fields=True):
    """null is unlimited."""

    orchestrators: Count | UnsetType | None = UNSET
    members: Count | UnsetType | None = UNSET
    llm_configs: Count | UnsetType | None = UNSET
    central_points: Count | UnsetType | None = UNSET
    plugins: Count | UnsetType | None = UNSET
    requests_per_minute: Rate | UnsetType | None = UNSET
    request_burst: Rate | UnsetType | None = UNSET
    chats_per_minute: Rate | UnsetType | None = UNSET
    member_requests_per_minute: Rate | UnsetType | None = UNSET
    concurrent_runs: Rate | UnsetType | None = UNSET
    messages_per_day: Count | UnsetType | None = UNSET
    messages_per_month: Count | UnsetType | None = UNSET
    tokens_per_day: Count | UnsetType | None = UNSET
    tokens_per_month: Count | UnsetType | None = UNSET


class TierView(msgspec.Struct):
    """null is unlimited.

    `requests_per_minute` and `request_burst` are for all requests of the organization's members but chats, of which
    there are `chats_per_minute`; `member_requests_per_minute` is for each member and for each API key. Plugins count
    once in all their versions. Days and months are calendar ones, in UTC.
    """

    name: TierName
    orchestrators: int | None
    members: int | None
    llm_configs: int | None
    central_points: int | None
    plugins: int | None
    requests_per_minute: int | None
    request_burst: int | None
    chats_per_minute: int | None
    member_requests_per_minute: int | None
    concurrent_runs: int | None
    messages_per_day: int | None
    messages_per_month: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, tier: Tier) -> Self:
        return cls(**{name: getattr(tier, name) for name in cls.__struct_fields__})


class UsageView(msgspec.Struct):
    """How many there are and how many the tier allows; null is unlimited."""

    used: int
    limit: int | None


def as_decimal(amount: float | None) -> Decimal | None:
    """By way of its shortest text, so that 0.1 is stored as 0.1."""
    return None if amount is None else Decimal(str(amount))


def dollars(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
