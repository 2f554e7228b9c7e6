"""The end of a purge, after the workers': packages, what Redis and the broker hold, and the rows last.

Every step can be repeated, and the purge's own row goes when all are done: a process that is killed in between leaves
nothing but a purge for the next one.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database.engine import Database
from control_plane.events.publisher import EventPublisher
from control_plane.orchestrators.tables import Orchestrator
from control_plane.purges.redis_keys import forget_in_redis
from control_plane.purges.rows import delete_rows
from control_plane.purges.service import PurgeService
from control_plane.purges.tables import OrganizationPurge
from shared.errors import DomainError
from shared.logging import get_logger
from shared.packages import PackageStore, tenant_prefix
from shared.workers import forget_use

CHECK_SECONDS = 2.0

log = get_logger(__name__)


class PurgeFinisher:
    """Several processes may do the same purge at once; none minds."""

    def __init__(
        self,
        *,
        database: Database,
        redis: Redis,
        packages: PackageStore,
        make_publisher: Callable[[], EventPublisher],
    ) -> None:
        self._database = database
        self._redis = redis
        self._packages = packages
        self._make_publisher = make_publisher

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.finish_all()
            except (SQLAlchemyError, RedisError, DomainError, OSError, TimeoutError) as error:
                log.warning("purge_not_finished", reason=type(error).__name__)
            await asyncio.sleep(CHECK_SECONDS)

    async def finish_all(self) -> None:
        """Raises what the stores raise."""
        async with self._database() as session:
            due = await PurgeService(session=session).dropped()
        for org_id in due:
            await self._finish(org_id)

    async def _finish(self, org_id: UUID) -> None:
        # What Redis holds under the ids of its orchestrators goes first: those are nowhere but in the rows.
        async with self._database() as session:
            instances = (await session.execute(select(Orchestrator.id).where(Orchestrator.org_id == org_id))).scalars()
            await forget_use(self._redis, instances.all())
        rows = await delete_rows(self._database, org_id)
        await self._packages.delete_below(tenant_prefix(org_id))
        # After the rows: what was cached from them is not there to be cached again.
        keys = await forget_in_redis(self._redis, org_id)
        messages = await self._forget_messages(org_id)
        async with self._database() as session:
            await session.execute(delete(OrganizationPurge).where(OrganizationPurge.org_id == org_id))
            await session.commit()
        log.info("organization_purged", rows=rows, keys=keys, messages=messages)

    async def _forget_messages(self, org_id: UUID) -> int:
        publisher = self._make_publisher()
        await publisher.start()
        try:
            return await publisher.forget(str(org_id).encode())
        finally:
            await publisher.stop()
