"""Counters that Redis lost, or never had this month: they begin with what is counted in PostgreSQL (decision 0053)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime
from uuid import UUID

from redis.asyncio import Redis

from shared.limits import Counted, keys
from shared.limits.scripts import SEED

LoadCounted = Callable[[UUID, date], Awaitable[Counted]]
"""Reads what is counted of an organization in the month of a day: a query in the control plane,
`GET /internal/limits/…/counted` in a worker. Raises StoreUnavailable."""


class Seeds:
    def __init__(self, redis: "Redis", load: LoadCounted) -> None:
        self._redis = redis
        self._load = load
        self._seed = redis.register_script(SEED)
        self._sowing: dict[UUID, asyncio.Task[None]] = {}

    async def sow(self, org_id: UUID, now: datetime) -> None:
        """Have the organization's counters of this month begin where they should, unless somebody has.

        Raises StoreUnavailable, RedisError. Whoever comes meanwhile takes the outcome: after a loss all come at once.
        """
        sowing = self._sowing.get(org_id)
        if sowing is None:
            sowing = self._sowing[org_id] = asyncio.create_task(self._sow(org_id, now))
            sowing.add_done_callback(lambda _: self._sowing.pop(org_id))
        # One caller that leaves must not take the attempt from the others.
        await asyncio.shield(sowing)

    async def _sow(self, org_id: UUID, now: datetime) -> None:
        counted = await self._load(org_id, now.date())
        args = [counted.messages_this_month, counted.tokens_this_month, counted.spent_micros, *_fields(counted, now)]
        await self._seed(keys=[keys.spent(org_id, now), keys.reserved(org_id)], args=args)


def _fields(counted: Counted, now: datetime) -> Iterator[str | int]:
    day = f"{now:%d}"
    yield from ("messages", counted.messages_this_month, f"messages:{day}", counted.messages_today)
    yield from ("tokens", counted.tokens_this_month, f"tokens:{day}", counted.tokens_today)
    yield from ("micros", counted.spent_micros)
    for budget_id, spent in counted.spent_by_key.items():
        yield from (f"micros:{budget_id}", spent)
