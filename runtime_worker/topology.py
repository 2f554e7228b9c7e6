"""This worker among the others: its heartbeat, what it reports of instances, and which hot ones are its to keep."""

import asyncio
import os
import resource
from collections.abc import Callable, Collection
from pathlib import Path
from uuid import UUID

from redis.exceptions import RedisError

from shared.logging import get_logger
from shared.placement import owners, place_of
from shared.workers import HEARTBEAT_SECONDS, InstanceState, WorkerRecord, WorkerRegistry

FULL_REPORT_BEATS = 30
"""Every so many heartbeats everything is reported again, in case the registry lost it without our noticing."""

log = get_logger(__name__)


class Topology:
    """Implements the pool's `Reports`. `describe` gives the record to announce, `report_all` fills the reports anew.

    `replication` workers keep each hot-tier instance built. `used_since` tells which instances had a run since the last
    heartbeat.
    """

    def __init__(
        self,
        registry: WorkerRegistry,
        worker_id: str,
        url: str,
        describe: Callable[[], WorkerRecord],
        *,
        replication: int = 1,
    ) -> None:
        self._registry = registry
        self._worker_id = worker_id
        self._place = place_of(url)
        self._describe = describe
        self._replication = replication
        self._places: tuple[str, ...] = (self._place,)
        self._has_others = False
        self._is_serving = False
        self._owners: dict[UUID, list[str]] = {}
        self._told: dict[UUID, InstanceState | None] = {}
        self._reported: set[UUID] = set()
        self._has_news = asyncio.Event()
        self._is_cut_off = False
        self._has_observed = False
        self.on_membership: Callable[[], None] = lambda: None
        self.report_all: Callable[[], None] = lambda: None
        self.used_since: Callable[[], Collection[UUID]] = lambda: ()

    @property
    def is_cut_off(self) -> bool:
        return self._is_cut_off

    @property
    def has_others(self) -> bool:
        """Whether another worker is there that is not about to leave."""
        return self._has_others

    @property
    def is_serving(self) -> bool:
        """Whether this worker has joined the others, and takes requests as far as it is up to it."""
        return self._is_serving

    async def serve(self) -> None:
        """Join: from now on the others count on this worker."""
        self._is_serving = True
        await self.beat()

    def owns(self, instance_id: UUID) -> bool:
        """Whether this worker is among those that keep a hot-tier instance built."""
        return self._place in self._owners_of(instance_id)

    def leads(self, key: UUID) -> bool:
        """Whether this worker, and no other, looks after what the key stands for."""
        return self._owners_of(key)[:1] == [self._place]

    def _owners_of(self, key: UUID) -> list[str]:
        found = self._owners.get(key)
        if found is None:
            found = self._owners[key] = owners(str(key), self._places, self._replication)
        return found

    def tell(self, state: InstanceState) -> None:
        self._told[state.instance_id] = state
        self._reported.add(state.instance_id)
        self._has_news.set()

    def forget(self, instance_id: UUID) -> None:
        # Most instances are never reported at all; the registry need not hear of those.
        if instance_id in self._reported:
            self._reported.discard(instance_id)
            self._told[instance_id] = None
            self._has_news.set()

    def observed(self) -> None:
        """More changes were taken in: say so now, for whoever waits for that."""
        self._has_observed = True
        self._has_news.set()

    async def run(self) -> None:
        """Heartbeat once a second, news as they come, until cancelled."""
        loop = asyncio.get_running_loop()
        beats, next_beat = 0, loop.time()
        while True:
            if loop.time() >= next_beat:
                next_beat = loop.time() + HEARTBEAT_SECONDS
                beats += 1
                if beats % FULL_REPORT_BEATS == 0:
                    self.report_all()
                await self.beat()
            await self._tell_registry()
            # After what was done with them: who sees the revision must not see what was before it.
            if self._has_observed and not self._told:
                self._has_observed = False
                await self.beat()
            try:
                async with asyncio.timeout_at(next_beat):
                    await self._has_news.wait()
            except TimeoutError:
                continue

    async def beat(self) -> None:
        """Announce this worker and look who else is there."""
        own = self._describe()
        try:
            await self._registry.announce(own, used=self.used_since())
            live = await self._registry.live()
        except RedisError as error:
            if not self._is_cut_off:
                log.warning("worker_registry_unavailable", reason=type(error).__name__)
            self._is_cut_off = True
            self._has_others = False
            return
        if self._is_cut_off:
            log.info("worker_registry_back")
            self._is_cut_off = False
            self.report_all()
        others = {place_of(w.url) for w in live if w.is_serving and w.worker_id != self._worker_id}
        self._has_others = bool(others)
        # While it joins it counts itself in already: that is what tells it what to build. Whoever drains gives its
        # instances away; without anybody else they stay where they are.
        places = tuple(sorted(others if own.draining and others else others | {self._place}))
        if places != self._places:
            self._places = places
            self._owners.clear()
            self.on_membership()

    async def recently_used(self) -> list[UUID]:
        """What was used last on any worker, the latest first; nothing while the registry is away."""
        try:
            return await self._registry.recently_used()
        except RedisError:
            return []

    async def leave(self) -> None:
        try:
            await self._registry.leave(self._worker_id)
        except RedisError as error:
            # The record expires by itself.
            log.warning("worker_registry_unavailable", reason=type(error).__name__)

    async def _tell_registry(self) -> None:
        if not self._told:
            self._has_news.clear()
            return
        told, self._told = self._told, {}
        self._has_news.clear()
        try:
            await self._registry.report(self._worker_id, [state for state in told.values() if state is not None])
            for instance_id, state in told.items():
                if state is None:
                    await self._registry.forget(self._worker_id, instance_id)
        except RedisError:
            # Kept for the next beat, under whatever was told meanwhile.
            self._told = {**told, **self._told}


def rss_mb() -> float:
    """Resident memory of this process in MB."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        # Not Linux: the highest it ever was, in bytes, is the best there is.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
