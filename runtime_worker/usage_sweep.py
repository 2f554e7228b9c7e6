"""Usage that Redis lost before it was counted: found with the runs it is stored with, and told again.

A worker goes once through the runs of the organizations that placement gives it, in the order they began, well behind
those that go on, and asks which of them are not counted. How far it came is in Redis, beside what may be lost: a Redis
that lost the one has lost the other, so the look begins anew with the oldest run that can still be counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.conversations.retention import RetentionSource
from shared.clock import Clock
from shared.errors import DomainError
from shared.ids import first_id_at
from shared.logging import get_logger
from shared.usage import FIELD, STREAM, Uncounted

CHECK_SECONDS = 600.0
BEHIND_SECONDS = 2 * 3600.0
"""A run goes on for an hour at most, and its end may be stored late. Until then it counts as going on."""

PAGE_SIZE = 500
BATCH = 500
MAX_BATCHES = 20
"""How many one organization gets in one look; the next goes on from there."""

PLACE_SECONDS = 90 * 24 * 3600
"""Renewed with every run that is looked at; one that runs out costs a look at all of them."""

_START = UUID(int=0)

UncountedSource = Callable[[Sequence[UUID]], Awaitable[Uncounted]]
"""Which of these runs are not counted. Raises StoreUnavailable."""

log = get_logger(__name__)


class UsageSweep:
    """`owns` tells whether this worker is the one that looks after an organization."""

    def __init__(
        self,
        redis: "Redis",
        store: MongoConversationStore,
        organizations: RetentionSource,
        uncounted: UncountedSource,
        owns: Callable[[UUID], bool],
        clock: Clock,
        *,
        behind_seconds: float = BEHIND_SECONDS,
    ) -> None:
        self._redis = redis
        self._store = store
        self._organizations = organizations
        self._uncounted = uncounted
        self._owns = owns
        self._clock = clock
        self._behind = timedelta(seconds=behind_seconds)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.sweep()
            # A control plane that is older than this worker does not know the question.
            except (DomainError, PyMongoError, RedisError) as error:
                log.warning("usage_not_swept", reason=type(error).__name__)

    async def sweep(self) -> int:
        """One look at every organization of this worker's; how many runs were told again.

        Raises DomainError, PyMongoError, RedisError.
        """
        oldest = (await self._uncounted(())).oldest
        after: UUID | None = None
        told = 0
        while True:
            page = await self._organizations(after, PAGE_SIZE)
            for organization in page.organizations:
                if self._owns(organization.org_id):
                    told += await self._look(organization.org_id, oldest)
            if page.next_after is None:
                return told
            after = page.next_after

    async def _look(self, org_id: UUID, oldest: datetime | None) -> int:
        place = _place(org_id)
        raw = cast("bytes | None", await self._redis.get(place))
        after = UUID(raw.decode()) if raw else first_id_at(oldest) if oldest else _START
        before = first_id_at(self._clock.now() - self._behind)
        told = 0
        for _ in range(MAX_BATCHES):
            runs = await self._store.ended_run_ids(org_id, after=after, before=before, limit=BATCH)
            if not runs:
                break
            missing = (await self._uncounted(runs)).run_ids
            entries = [entry for run_id in missing if (entry := await self._entry(org_id, run_id))]
            after, told = runs[-1], told + len(entries)
            # In one step: what is behind the place has been told. Told twice, it is counted once.
            async with self._redis.pipeline(transaction=True) as pipe:
                for entry in entries:
                    pipe.xadd(STREAM, {FIELD: entry})
                pipe.set(place, str(after), ex=PLACE_SECONDS)
                await pipe.execute()
            if len(runs) < BATCH:
                break
        if told:
            log.warning("usage_told_again", org_id=str(org_id), runs=told)
        return told

    async def _entry(self, org_id: UUID, run_id: UUID) -> bytes | None:
        """None for a run that is deleted meanwhile, or that was stored without what it used."""
        run = await self._store.find_run(org_id, run_id)
        return run.usage_entry if run else None


def _place(org_id: UUID) -> str:
    return f"usage_swept:{org_id}"
