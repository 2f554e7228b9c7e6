"""What is made ready before anybody asks: a few at a time, most recently used first, beside what serves."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.pool.entry import Entry
from runtime_worker.pool.index import PoolIndex
from shared.errors import NotFound, StoreUnavailable
from shared.logging import get_logger
from shared.settings import Prewarm

AT_ONCE = 2
"""The rest of the builds' places is for those whom somebody waits for."""

log = get_logger(__name__)


class Prewarming(msgspec.Struct, frozen=True):
    """Whose snapshots are fetched at start, so that their first request does not wait for the control plane.

    `recent`: the `count` most recently used, filled up with the most recently changed; `all` and `none`: as they say.
    """

    which: Prewarm = "recent"
    count: int = 100


NOTHING = Prewarming("none", 0)


class Preparation:
    """`build` builds a pinned instance if there is room for it and says whether there was; it never raises.

    `fetch` gets a snapshot. Raises NotFound, StoreUnavailable.
    """

    def __init__(
        self,
        index: PoolIndex,
        prewarming: Prewarming,
        build: Callable[[Entry], Awaitable[bool]],
        fetch: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._index = index
        self._prewarming = prewarming
        self._build = build
        self._fetch = fetch
        self._ranks: dict[UUID, int] = {}
        self._to_build: dict[UUID, Entry] = {}
        self._order: list[tuple[int, int, UUID]] = []
        self._to_fetch: list[Entry] = []
        self._running: set[asyncio.Task[None]] = set()
        self._is_scheduled = self._is_closed = False

    @property
    def waiting_count(self) -> int:
        """Instances that are to be built and nobody has begun with."""
        return len(self._to_build)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to prepare."""
        return not (self._to_build or self._to_fetch or self._running)

    def remember(self, recently_used: Sequence[UUID]) -> None:
        """What this worker or others used last, the latest first."""
        self._ranks = {instance_id: rank for rank, instance_id in enumerate(recently_used)}

    def want(self, entry: Entry) -> None:
        """Build it when its turn comes. Safe to repeat."""
        if entry.instance_id not in self._to_build:
            self._to_build[entry.instance_id] = entry
            heapq.heappush(self._order, (*self._rank(entry), entry.instance_id))
        self._schedule()

    def prewarm(self) -> None:
        """Fetch the snapshots that shall be there from the start. Call it once everything is known."""
        if self._prewarming.which == "none":
            return
        cold = sorted((e for e in self._index.all() if e.may_serve and e.residency == "cold"), key=self._rank)
        self._to_fetch = cold if self._prewarming.which == "all" else cold[: self._prewarming.count]
        self._to_fetch.reverse()
        self._schedule()

    async def stop(self) -> None:
        self._is_closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _rank(self, entry: Entry) -> tuple[int, int]:
        return self._ranks.get(entry.instance_id, len(self._ranks)), -entry.revision

    def _schedule(self) -> None:
        # Not at once: what comes in one page of the change feed is put in order first.
        if not self._is_scheduled and not self._is_closed:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_scheduled = False
        while not self._is_closed and len(self._running) < AT_ONCE and (work := self._next()) is not None:
            task = asyncio.create_task(work, name="prepare-orchestrator")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("preparation_crashed", exc_info=error)
        self._go_on()

    def _next(self) -> Coroutine[Any, Any, None] | None:
        while self._order:
            entry = self._to_build.pop(heapq.heappop(self._order)[-1], None)
            if entry is not None:
                return self._build_one(entry)
        return self._fetch_one(self._to_fetch.pop()) if self._to_fetch else None

    async def _build_one(self, entry: Entry) -> None:
        if not await self._build(entry):
            # Nor is there for those behind it. Whoever looks after the pool asks again when there is.
            self._to_build.clear()
            self._order.clear()

    async def _fetch_one(self, entry: Entry) -> None:
        if not (self._index.holds(entry) and entry.may_serve and entry.residency == "cold"):
            return
        try:
            await self._fetch(entry.instance_id)
        except NotFound:
            return
        except StoreUnavailable as error:
            # It was to save time, not to be waited for: requests fetch what they need.
            log.info("prewarming_given_up", left=len(self._to_fetch), reason=error.detail)
            self._to_fetch.clear()
