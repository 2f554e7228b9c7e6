"""Deciding about a request in the round trip that finds out who is calling."""

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.clock import Clock
from shared.errors import (
    BudgetSpent,
    DomainError,
    MessagesSpent,
    RateLimited,
    StoreUnavailable,
    TokensSpent,
    TooManyRuns,
)
from shared.limits import Admission, CachedLimits, Charge, OrganizationLimits, WhenUncounted, keys
from shared.limits.scripts import ADMIT
from shared.limits.seeds import LoadCounted, Seeds
from shared.logging import get_logger
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant

LoadLimits = Callable[[UUID], Awaitable[OrganizationLimits]]
"""Reads an organization's limits from the truth: a query in the control plane, `GET /internal/limits/…` in a worker.
Raises StoreUnavailable, NotFound."""

Credential = Literal["session", "key"]

CACHE_SECONDS = 7 * 24 * 3600
"""Correctness never depends on it; a worker goes by what is cached while the control plane is away."""

LEASE_SECONDS = 15.0
"""How long a run holds what it has set aside unless its worker vouches for it, which it does every second."""

_PROBE = "limit:probe"
_ASKED = 7

log = get_logger(__name__)


class _Decision(msgspec.Struct):
    refused: str = ""
    limit: int | None = None
    remaining: int = 0
    reset: int = 0
    seconds: int = 0
    period: str = ""
    reserved: bool = False
    budgeted: bool = False
    unseeded: bool = False


class Asked(msgspec.Struct):
    """The values of the keys that tell who is calling, and what was decided; None when that needs the truth."""

    values: list[bytes | None]
    credential: Credential
    caller: str
    org_id: UUID | None
    charge: Charge | None
    decision: _Decision | None = None
    cached: list[bytes | None] = []
    is_uncounted: bool = False


class Limiter:
    def __init__(
        self,
        redis: "Redis",
        clock: Clock,
        load: LoadLimits,
        *,
        counted: LoadCounted,
        when_uncounted: WhenUncounted = "open",
        requests_per_minute: int = 6_000,
    ) -> None:
        """`counted` is asked when Redis does not know what an organization has spent; `requests_per_minute` is what one
        caller may where no organization's tier says it."""
        self._redis = redis
        self._clock = clock
        self._load = load
        self.seeds = Seeds(redis, counted)
        self.when_uncounted = when_uncounted
        self._requests_per_minute = requests_per_minute
        self._admit = redis.register_script(ADMIT)
        self._decoder = msgspec.json.Decoder(_Decision)
        self._cached = msgspec.json.Decoder(CachedLimits)

    async def ask(
        self,
        credential: Credential,
        first: str,
        grant_keys: Sequence[str],
        caller: str,
        org_id: UUID | None,
        charge: Charge | None,
    ) -> Asked:
        """The values of `first` and of the grant's keys; in the same step the charge is taken if all is known that it
        depends on.
        """
        asked = Asked([], credential, caller, org_id, charge)
        who = [first, *grant_keys]
        if charge is None:
            asked.values = cast("list[bytes | None]", await self._redis.mget(who))
            return asked
        try:
            await self._decide(asked, who, "")
        except ResponseError as error:
            # Redis answers and takes no writes: out of memory, a replica, a disk that is full.
            asked.is_uncounted = True
            log.error("limits_not_counted", reason=type(error).__name__, detail=str(error)[:200])
            asked.values = cast("list[bytes | None]", await self._redis.mget(who))
        return asked

    async def conclude(self, asked: Asked, grant: Grant, api_key: APIKeyRecord | None) -> Admission:
        """What was decided, or is decided now that the truth is known. Raises nothing but what Redis raises."""
        charge = asked.charge
        if charge is None:
            return Admission()
        if (asked.decision is None or asked.decision.unseeded) and not asked.is_uncounted:
            try:
                await self._decide_by_truth(asked, grant, api_key)
            except (ResponseError, StoreUnavailable) as error:
                asked.is_uncounted = True
                log.error("limits_not_counted", reason=type(error).__name__, detail=str(error)[:200])
        admission = Admission(org_id=asked.org_id, budget_id=api_key.charged_to if api_key else None)
        if asked.decision is None or asked.decision.unseeded:
            if self.when_uncounted == "closed":
                admission.refusal = StoreUnavailable("what this organization uses cannot be counted right now")
            return admission
        decision = asked.decision
        admission.limit, admission.remaining, admission.reset_seconds = (
            decision.limit,
            decision.remaining,
            decision.reset,
        )
        if decision.refused:
            admission.refusal = refusal_of(decision.refused, decision.limit, self._wait(decision), decision.period)
        if decision.reserved:
            admission.run_id, admission.has_budget = charge.run_id, decision.budgeted
        return admission

    async def admit(self, grant: Grant, charge: Charge) -> Admission:
        """The same for a caller of whom nobody has asked Redis: one without a session or a key of their own."""
        asked = Asked([], "session", str(grant.user_id), grant.org_id, charge)
        try:
            places = [keys.limits_key(grant.org_id), keys.TIERS_GENERATION, keys.org_generation(grant.org_id)]
            asked.cached = cast("list[bytes | None]", await self._redis.mget(places))
        except ResponseError:
            asked.is_uncounted = True
        return await self.conclude(asked, grant, None)

    async def can_count(self) -> None:
        """Raises RedisError unless Redis takes writes."""
        await self._redis.set(_PROBE, 1, ex=60)

    async def _decide(self, asked: Asked, who: Sequence[str], subject: str) -> None:
        charge, org_id, now = cast("Charge", asked.charge), asked.org_id, self._clock.now()
        found = cast(
            "list[bytes | None]",
            await self._admit(
                keys=[*who, *keys.of_request(org_id, charge.kind, asked.caller), keys.spent(org_id, now)],
                args=[
                    charge.kind,
                    subject,
                    asked.credential,
                    now.isoformat(),
                    str(org_id or ""),
                    str(charge.run_id or ""),
                    f"{now.day:02}",
                    round(LEASE_SECONDS * 1000),
                    self._requests_per_minute,
                ],
            ),
        )
        if not subject:
            asked.values, asked.cached = found[:4], found[4:_ASKED]
        decision = found[_ASKED]
        asked.decision = None if decision is None else self._decoder.decode(decision)

    async def _decide_by_truth(self, asked: Asked, grant: Grant, api_key: APIKeyRecord | None) -> None:
        """Raises StoreUnavailable and what Redis raises."""
        subject = msgspec.json.encode(await self._subject(asked, grant, api_key)).decode()
        nobody = ["-", "-", "-", "-"]
        if asked.decision is None:
            await self._decide(asked, nobody, subject)
        if asked.org_id is not None and asked.decision is not None and asked.decision.unseeded:
            await self.seeds.sow(asked.org_id, self._clock.now())
            await self._decide(asked, nobody, subject)

    async def _subject(self, asked: Asked, grant: Grant, api_key: APIKeyRecord | None) -> dict[str, object]:
        """Whose limits count. Empty for a caller without a place in a living organization, who has their own."""
        org_id, charge = asked.org_id, asked.charge
        has_place = grant.is_alive and (grant.is_member or grant.role is not None or bool(grant.custom))
        if org_id is None or grant.org_status != "active" or not has_place:
            return {}
        if charge is not None and charge.kind == "api" and grant.is_sys_admin:
            return {}
        limits = await self._limits(org_id, asked.cached)
        key = {"id": str(api_key.charged_to), "budget": api_key.budget_micros} if api_key else None
        return {"limits": limits, "key": key}

    async def _limits(self, org_id: UUID, cached: Sequence[bytes | None]) -> OrganizationLimits:
        """Raises StoreUnavailable when there is neither the truth nor anything older."""
        raw, tiers, organization = cached
        generations = int(tiers or 0), int(organization or 0)
        known = self._cached.decode(raw) if raw is not None else None
        if known is not None and (known.tiers_generation, known.org_generation) == generations:
            return known.limits
        try:
            limits = await self._load(org_id)
        except StoreUnavailable:
            if known is None:
                raise
            return known.limits
        entry = msgspec.json.encode(CachedLimits(*generations, limits))
        await self._redis.set(keys.limits_key(org_id), entry, ex=CACHE_SECONDS)
        return limits

    def _wait(self, decision: _Decision) -> int:
        if decision.refused == "rate":
            return max(1, decision.seconds)
        return seconds_until_over(decision.period, self._clock.now())


class LimitsInvalidator:
    """Makes a change of limits count on the very next request. Call before the commit and again after it."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    async def tier_changed(self) -> None:
        await self._redis.incr(keys.TIERS_GENERATION)

    async def organization_changed(self, org_id: UUID) -> None:
        await self._redis.incr(keys.org_generation(org_id))


def seconds_until_over(period: str, now: datetime) -> int:
    """Until a calendar day or month is over, in UTC; a second for what is over in a moment."""
    if period == "moment":
        return 1
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    over = today + timedelta(days=1)
    if period == "month":
        over = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return max(1, math.ceil((over - now).total_seconds()))


def refusal_of(what: str, limit: int | None, seconds: int, period: str) -> DomainError:
    """The error for a decision of the script."""
    again = "try again when the runs that are going on have ended"
    if period != "moment":
        again = f"there are more when the {period} is over"
    if what == "rate":
        return RateLimited(retry_after_seconds=seconds, limit=limit)
    if what == "runs":
        detail = f"the organization's tier allows {limit} runs at once"
        return TooManyRuns(detail, retry_after_seconds=seconds, limit=limit)
    if what in ("messages", "tokens"):
        kind = MessagesSpent if what == "messages" else TokensSpent
        detail = f"the tier allows {limit} {what}; {again}"
        return kind(detail, retry_after_seconds=seconds, limit=limit)
    whose = "the API key" if what == "key budget" else "the organization"
    if period != "moment":
        again = "it is there again when the month is over"
    return BudgetSpent(f"the budget of {whose} is used up; {again}", retry_after_seconds=seconds)
