"""The live workers as the gateway sees them: the registry, read a few times a second, just-failed ones last."""

import asyncio

import msgspec
from redis.exceptions import RedisError

from shared.clock import Clock
from shared.errors import NoLiveWorker, StoreUnavailable
from shared.logging import get_logger
from shared.placement import by_place, overloaded, rank
from shared.workers import RECORD_SECONDS, WorkerRecord, WorkerRegistry

log = get_logger(__name__)

MAX_AGE_SECONDS = 0.5
AHEAD_SECONDS = 0.25
"""A request that finds a list older than this has it read anew for those that come after it, and does not wait."""
MAX_STALE_SECONDS = 30.0
"""How long the last known list is used while Redis is away; workers need Redis too and say so themselves."""

SUSPECT_SECONDS = float(RECORD_SECONDS)
"""A worker that refused a connection is tried last for as long as its registry record may outlive it."""


class WorkerDirectory:
    """Answers from memory; one caller at a time refreshes it."""

    def __init__(self, registry: WorkerRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._workers: list[WorkerRecord] = []
        self._read_at: float | None = None
        self._tried_at = float("-inf")
        self._suspects: dict[str, float] = {}
        self._sent: dict[str, int] = {}
        self._refreshing = asyncio.Lock()
        self._reading_ahead: asyncio.Task[None] | None = None

    async def candidates(self, key: str) -> list[WorkerRecord]:
        """Workers that take requests in the order to try them: the owner of `key`, then who would be it next. Those
        that are loaded above their part come after the others, just-failed ones last.

        Raises NoLiveWorker or StoreUnavailable.
        """
        await self._refresh()
        # Where nobody else is there, one that is still building what it will keep serves all the same.
        places = by_place([w for w in self._workers if w.is_serving] or [w for w in self._workers if not w.draining])
        if not places:
            raise NoLiveWorker
        now = self._clock.monotonic()
        self._suspects = {w: until for w, until in self._suspects.items() if until > now}
        loaded = overloaded([self._as_of_now(worker) for worker in places.values()])
        return sorted(
            (places[place] for place in rank(key, places)),
            key=lambda worker: (worker.worker_id in self._suspects, worker.worker_id in loaded),
        )

    def sent(self, worker_id: str) -> None:
        """A run was just begun there, of which the registry cannot know yet."""
        self._sent[worker_id] = self._sent.get(worker_id, 0) + 1

    def _as_of_now(self, worker: WorkerRecord) -> WorkerRecord:
        sent = self._sent.get(worker.worker_id, 0)
        return msgspec.structs.replace(worker, active_runs=worker.active_runs + sent) if sent else worker

    async def all(self) -> list[WorkerRecord]:
        """All that are known, whatever they do; none while the registry cannot be read."""
        try:
            await self._refresh()
        except StoreUnavailable:
            return []
        return self._workers

    async def is_live(self, worker_id: str) -> bool:
        """Whether the worker still says so itself; while the registry cannot be read nobody is taken for lost."""
        try:
            await self._refresh()
        except StoreUnavailable:
            return True
        return any(worker.worker_id == worker_id for worker in self._workers)

    def suspect(self, worker_id: str) -> None:
        """A connection to this worker just failed."""
        self._suspects[worker_id] = self._clock.monotonic() + SUSPECT_SECONDS

    def trust(self, worker_id: str) -> None:
        self._suspects.pop(worker_id, None)

    async def _refresh(self) -> None:
        if self._is_due():
            async with self._refreshing:
                # Whoever waited for another's attempt takes its outcome: while Redis hangs, each attempt takes seconds.
                if self._is_due():
                    await self._read()
        elif self._reading_ahead is None and self._clock.monotonic() - self._tried_at >= AHEAD_SECONDS:
            self._reading_ahead = asyncio.create_task(self._read_ahead(), name="read-workers-ahead")
        if self._read_at is None:
            raise StoreUnavailable("the worker registry cannot be read")

    async def _read_ahead(self) -> None:
        try:
            async with self._refreshing:
                await self._read()
        finally:
            self._reading_ahead = None

    async def close(self) -> None:
        """Nobody asks any more."""
        if self._reading_ahead is not None:
            self._reading_ahead.cancel()
            await asyncio.gather(self._reading_ahead, return_exceptions=True)

    def _is_due(self) -> bool:
        return self._clock.monotonic() - self._tried_at >= MAX_AGE_SECONDS

    async def _read(self) -> None:
        try:
            self._workers = await self._registry.live()
        except RedisError as error:
            log.warning("gateway_cannot_read_workers", error=type(error).__name__)
            if self._read_at is not None and self._clock.monotonic() - self._read_at > MAX_STALE_SECONDS:
                self._read_at = None
        else:
            self._read_at = self._clock.monotonic()
            self._sent.clear()
        finally:
            self._tried_at = self._clock.monotonic()
