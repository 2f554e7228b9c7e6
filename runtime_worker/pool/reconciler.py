"""Keeping the pool true to the control plane: by revision, whatever happens to events."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from runtime_worker.pool.central_points import CentralPoints
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from shared.errors import StoreUnavailable
from shared.logging import get_logger
from shared.snapshots import ChangePage

POLL_SECONDS = 3.0
"""How old a worker's view may get without the broker: the promise is 5 s, and a pass takes time too."""

PAGE_SIZE = 500

ChangeSource = Callable[[int, int], Awaitable[ChangePage]]
"""`(since, limit)` → the page of the change feed. Raises StoreUnavailable when the control plane does not answer."""

log = get_logger(__name__)


class Reconciler:
    """Asks for changes every few seconds, when poked, and when events tell of more than it finds by itself.
    While nobody answers, the pool keeps its last good state.

    `on_observed` is told whenever `observed_revision` rose.
    """

    def __init__(self, pool: OrchestratorPool, points: CentralPoints, changes: ChangeSource, heap: Heap) -> None:
        self._pool = pool
        self._points = points
        self._changes = changes
        self._heap = heap
        self._since = 0
        self._poked = asyncio.Event()
        # What events told since the last turn, and whether that is not enough to go by.
        self._told: dict[UUID, int] = {}
        self._newest_told = 0
        self._must_look = True
        self._caught_up = asyncio.Event()
        self._is_cut_off = False
        self._waiting: list[asyncio.Future[bool]] = []
        self.on_observed: Callable[[], None] = lambda: None

    @property
    def observed_revision(self) -> int:
        """Every change up to this one has been taken in."""
        return self._since

    @property
    def has_caught_up(self) -> bool:
        """Whether the whole feed has been read at least once."""
        return self._caught_up.is_set()

    @property
    def is_cut_off(self) -> bool:
        """Whether the last attempt found no control plane."""
        return self._is_cut_off

    def hint(self, revision: int, instance_id: UUID | None = None) -> None:
        """An event says that something changed, and which instance; one that is not news costs nothing."""
        if revision <= self._since:
            return
        if instance_id is None:
            self._must_look = True
        else:
            self._told[instance_id] = max(revision, self._told.get(instance_id, 0))
            self._newest_told = max(revision, self._newest_told)
        self._poked.set()

    def poke(self) -> None:
        """Look now: an event may have been lost."""
        self._must_look = True
        self._poked.set()

    async def look(self) -> bool:
        """Wait for a look at the feed that begins from now on; whether the control plane answered.

        However many wait, they wait for the same one.
        """
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.poke()
        return await waiting

    async def wait_until_caught_up(self) -> None:
        await self._caught_up.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            waiting, self._waiting = self._waiting, []
            await self.take_in()
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(not self._is_cut_off)
            self._pool.maintain()
            self._heap.tidy()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._poked.wait()
            except TimeoutError:
                self._must_look = True

    async def take_in(self) -> None:
        """Learn all that there is to know by now: from the instances that events named, or from the change feed."""
        if self._must_look or not await self._follow():
            await self.catch_up()

    async def _follow(self) -> bool:
        """Fetch what serves here and has changed; whether that was all that changed.

        It saves the way to the feed and back. Revisions become visible in their order, each is that of one thing, and
        the fetched snapshot is the truth about it: who knows everything before an instance's revision and its snapshot
        knows everything up to it.
        """
        self._poked.clear()
        told, self._told = self._told, {}
        newest = self._newest_told
        await self._pool.fetch_serving(told)
        since = self._since
        for instance_id, revision in sorted(told.items(), key=lambda told: told[1]):
            if revision == since + 1 and self._pool.has_heard_of(instance_id, revision):
                since = revision
        self._observe(since)
        return self._since >= newest

    def _observe(self, revision: int) -> None:
        if revision > self._since:
            self._since = revision
            self.on_observed()

    async def catch_up(self) -> None:
        """Apply everything after the last revision seen, oldest first."""
        # Cleared before asking: a hint that comes while the answer travels must lead to another look.
        self._poked.clear()
        self._told.clear()
        self._must_look = False
        try:
            while True:
                page = await self._changes(self._since, PAGE_SIZE)
                for change in page.changes:
                    self._pool.apply(change)
                for point in page.central_points:
                    self._points.apply(point)
                self._observe(page.next_since)
                if not page.has_more:
                    break
        except StoreUnavailable as error:
            if not self._is_cut_off:
                log.warning("change_feed_unavailable", reason=error.detail, since=self._since)
            self._is_cut_off = True
            return
        if self._is_cut_off:
            log.info("change_feed_back", since=self._since)
            self._pool.source_is_back()
        self._is_cut_off = False
        if not self._caught_up.is_set():
            self._caught_up.set()
            self._pool.prewarm()
