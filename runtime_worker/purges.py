"""Letting go of organizations that are purged, and removing what they said.

Every worker stops what it does for one and says so; when all have, the one that placement gives it to drops its
database. Nothing depends on having heard of it at once: the control plane tells of it until it is done.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import pymongo
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.plugins.registry import BundleRegistry
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.stream.run_log import events_key
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.cancellation import cancel_key
from runtime_worker.turn.claims import record_key
from runtime_worker.turn.run import RunTable
from shared.errors import DomainError, NotFound
from shared.logging import get_logger
from shared.purges import PendingPurge, PurgePage, PurgeReport

CHECK_SECONDS = 3.0
DROP_SECONDS = 60.0
RUN_SECONDS = 30.0
"""How long a cancelled run may take to end before the worker tries again later."""

BATCH = 500

log = get_logger(__name__)


class PurgeSource(Protocol):
    """The control plane. Raises StoreUnavailable, and NotFound for a purge that is over."""

    async def purges(self) -> PurgePage: ...
    async def tell_of_purge(self, org_id: UUID, report: PurgeReport) -> None: ...


class Purges:
    """`owns` tells whether this worker is the one that looks after an organization."""

    def __init__(
        self,
        *,
        worker_id: str,
        source: PurgeSource,
        owns: Callable[[UUID], bool],
        pool: OrchestratorPool,
        bundles: BundleRegistry,
        table: RunTable,
        backlog: SaveBacklog,
        store: MongoConversationStore,
        redis: Redis,
    ) -> None:
        self._worker_id = worker_id
        self._source = source
        self._owns = owns
        self._pool = pool
        self._bundles = bundles
        self._table = table
        self._backlog = backlog
        self._store = store
        self._redis = redis
        self._let_go: set[UUID] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.work()
            # A control plane that is older than this worker does not know the question.
            except (DomainError, PyMongoError, RedisError, TimeoutError) as error:
                log.warning("purges_not_done", reason=type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)

    async def work(self) -> None:
        """One look at what is to be purged. Raises DomainError, PyMongoError, RedisError, TimeoutError."""
        pending = (await self._source.purges()).purges
        # What is over need not be kept out any more: nothing knows its id.
        self._let_go &= {purge.org_id for purge in pending}
        for purge in pending:
            try:
                await self._work_on(purge)
            except NotFound:
                # Another worker was faster.
                self._let_go.discard(purge.org_id)

    async def _work_on(self, purge: PendingPurge) -> None:
        if purge.org_id not in self._let_go:
            await self._let_go_of(purge)
            self._let_go.add(purge.org_id)
            await self._source.tell_of_purge(purge.org_id, PurgeReport(self._worker_id))
        elif purge.may_drop and self._owns(purge.org_id):
            await self._drop(purge.org_id)
            await self._source.tell_of_purge(purge.org_id, PurgeReport(self._worker_id, has_dropped=True))

    async def _let_go_of(self, purge: PendingPurge) -> None:
        """Nothing of it is served, run, written or kept here any more."""
        self._store.shut(purge.org_id)
        runs = [run for run in self._table.all() if run.org_id == purge.org_id]
        for run in runs:
            run.cancel()
        async with asyncio.timeout(RUN_SECONDS):
            for run in runs:
                await run.wait()
        self._backlog.forget(purge.org_id)
        await self._pool.forget_organization(purge.org_id)
        await self._bundles.forget_packages(purge.digests)

    async def _drop(self, org_id: UUID) -> None:
        # Their keys in Redis are named after runs, whose ids are nowhere but here.
        with pymongo.timeout(DROP_SECONDS):
            batch: list[str] = []
            async for run_id in self._store.run_ids(org_id):
                batch += [record_key(run_id), events_key(run_id), cancel_key(run_id)]
                if len(batch) >= BATCH:
                    await self._redis.delete(*batch)
                    batch = []
            if batch:
                await self._redis.delete(*batch)
            await self._store.drop(org_id)
        log.info("conversations_purged")
