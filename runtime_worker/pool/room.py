"""Keeping what is built within its limits, by number and by memory."""

from collections.abc import Callable

from runtime_worker.pool.builds import Builds
from runtime_worker.pool.entry import Entry, Reports
from runtime_worker.pool.eviction import Holding, HotView, PoolLimits, choose_evictions
from runtime_worker.pool.index import PoolIndex
from shared.clock import Clock

FULL = 0.9
"""A share of the memory above which nothing is built that nobody asked for."""

PRESSED_SECONDS = 60.0
"""How long what had to make room stays away without a request, so that two that do not fit do not take turns."""


class Room:
    def __init__(
        self,
        index: PoolIndex,
        builds: Builds,
        clock: Clock,
        reports: Reports,
        limits: PoolLimits,
        is_pinned: Callable[[Entry], bool],
    ) -> None:
        self._index = index
        self._builds = builds
        self._clock = clock
        self._reports = reports
        self._limits = limits
        self._is_pinned = is_pinned
        self._is_over = False

    @property
    def memory_bytes(self) -> int:
        """What is built holds now, the processes of its plugins included."""
        return self._builds.used_bytes

    @property
    def hot_fill(self) -> float:
        """The larger share of the two limits that is used, above 1 while busy orchestrators exceed one."""
        by_count = len(self._index.hot) / self._limits.max_hot_pool_size
        return max(by_count, self.memory_bytes / self._limits.max_memory_bytes)

    def fits_another(self) -> bool:
        """Whether there is room for an instance that nobody has asked for, if need be in place of one on demand."""
        hot = self._index.hot.values()
        beginning = sum(entry.building is not None and entry.current is None for entry in self._index.hot_tier.values())
        has_memory = self.memory_bytes <= self._limits.max_memory_bytes * FULL
        if has_memory and len(hot) + beginning < self._limits.max_hot_pool_size:
            return True  # Whoever stays: looking at every one, at every build of a start, adds up.
        staying = sum(entry.is_busy or self._is_pinned(entry) for entry in hot)
        if staying + beginning >= self._limits.max_hot_pool_size:
            return False
        return staying < len(hot) or has_memory

    def make(self) -> None:
        """Send away what was not used for too long, and what has to make room."""
        now = self._clock.monotonic()
        memory = self._builds.memory()
        evictions = choose_evictions([self._view(e) for e in self._index.hot.values()], now, self._limits, memory)
        for instance_id in evictions.pressed:
            self._index.hot[instance_id].pressed_until = now + PRESSED_SECONDS
        for instance_id in (*evictions.expired, *evictions.pressed):
            self._builds.retire(self._index.hot[instance_id])
            self._reports.forget(instance_id)
        is_too_much = memory.used_bytes > self._limits.max_memory_bytes
        self._is_over = is_too_much or len(self._index.hot) > self._limits.max_hot_pool_size

    def make_if_full(self) -> None:
        """Cheap enough for the end of every build: what was not used for too long waits for the next `make`."""
        if self._is_over or self.hot_fill > 1:
            self.make()

    def make_if_over(self) -> None:
        """Cheap enough for the end of every run: does nothing unless busy orchestrators exceeded a limit."""
        if self._is_over:
            self.make()

    def _view(self, entry: Entry) -> HotView:
        return HotView(
            instance_id=entry.instance_id,
            last_used=entry.last_used,
            is_pinned=self._is_pinned(entry),
            is_busy=entry.is_busy,
            holding=entry.current.holding if entry.current else Holding(),
        )
