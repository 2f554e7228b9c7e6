"""How fast and how much an organization may: rates, runs at once, messages, tokens and money.

Counted in Redis by both planes (`limiter`), by scripts that each decide in one step (`scripts`).
"""

from typing import Any, Literal
from uuid import UUID

import msgspec

from shared.errors import DomainError

ChargeKind = Literal["api", "chat"]
WhenUncounted = Literal["open", "closed"]
"""What becomes of requests while Redis counts nothing: they pass, or they are refused."""

MICROS = 1_000_000
"""Money is counted in millionths of a US dollar."""


class OrganizationLimits(msgspec.Struct, frozen=True):
    """What the tier allows, and the budget of a calendar month in millionths of a US dollar. None is unlimited."""

    requests_per_minute: int | None = None
    request_burst: int | None = None
    chats_per_minute: int | None = None
    member_requests_per_minute: int | None = None
    concurrent_runs: int | None = None
    messages_per_day: int | None = None
    messages_per_month: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    budget_micros: int | None = None


class Charge(msgspec.Struct, frozen=True):
    """What a request is going to use: a place in a rate, and for a chat the run `run_id`."""

    kind: ChargeKind
    run_id: UUID | None = None


class Admission(msgspec.Struct):
    """What was decided about a request. `require` it where the order of the checks says so.

    `limit`, `remaining` and `reset_seconds` are those of the tightest rate, None where there is none. `run_id` is there
    when a run's place, message, tokens and money are set aside; whoever begins the run takes it over (`is_taken`).
    `budget_id` is the budget of the API key that asks, `has_budget` whether what the run costs is bounded by any.
    """

    refusal: DomainError | None = None
    limit: int | None = None
    remaining: int = 0
    reset_seconds: int = 0
    org_id: UUID | None = None
    run_id: UUID | None = None
    budget_id: UUID | None = None
    has_budget: bool = False
    is_taken: bool = False

    def require(self) -> None:
        """Raises what the request is refused with, if it is."""
        if self.refusal is not None:
            raise self.refusal

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-*` of an answer that is none of the refusals, which carry their own."""
        if self.limit is None:
            return []
        values = (
            (b"ratelimit-limit", self.limit),
            (b"ratelimit-remaining", self.remaining),
            (b"ratelimit-reset", self.reset_seconds),
        )
        return [(name, str(value).encode()) for name, value in values]


class Used(msgspec.Struct, frozen=True):
    """What an organization has used of what flows, this calendar day and month in UTC, and what is going on."""

    messages_today: int = 0
    messages_this_month: int = 0
    tokens_today: int = 0
    tokens_this_month: int = 0
    spent_micros: int = 0
    running: int = 0


class Counted(msgspec.Struct, frozen=True):
    """What is counted in PostgreSQL of an organization in a calendar month, and of it on one day; both in UTC.

    `spent_by_key` is in millionths of a US dollar, by the budget that API keys share with those they replaced.
    """

    messages_today: int = 0
    messages_this_month: int = 0
    tokens_today: int = 0
    tokens_this_month: int = 0
    spent_micros: int = 0
    spent_by_key: dict[UUID, int] = {}


class CachedLimits(msgspec.Struct, frozen=True):
    """As they were when the generations were these, like a cached grant (decision 0003)."""

    tiers_generation: int
    org_generation: int
    limits: OrganizationLimits


def micros(dollars: Any) -> int | None:
    """Rounded to the nearest millionth."""
    return None if dollars is None else round(dollars * MICROS)
