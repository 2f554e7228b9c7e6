"""Keeping the garbage collector from stopping live streams.

A full collection looks at every object that can form cycles: 134 ms after imports alone, 366 ms with a thousand
instances. What will live for long is therefore frozen, out of the collector's sight, after imports and after builds.
Frozen orchestrators that were retired are only found again by an unfrozen collection, which waits for an idle moment.
"""

import gc
from collections.abc import Callable

YOUNG_OBJECTS = 10_000
"""So many new objects before a young collection, instead of Python's 700: a run makes thousands, nearly all of them
gone when it ends, and looking at them again and again costs 2 to 3 % of the CPU of a stream."""

MAX_RETIRED = 500
"""So many replaced builds may stay uncollected under load that never pauses; then one stall is the lesser evil."""


class Heap:
    """Call `changed` whenever a build came or went and `tidy` now and then, outside of any hot path."""

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._changes = 0
        self._since_full = 0

    def started(self) -> None:
        """All imports are done: collect once and freeze what is left."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)

    def changed(self) -> None:
        self._changes += 1

    def tidy(self) -> None:
        if self._changes == 0 and self._since_full == 0:
            return
        self._since_full += self._changes
        if (self._is_idle() and self._changes == 0) or self._since_full >= MAX_RETIRED:
            self._since_full = 0
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        elif self._changes:
            # Only the young generations: cheap, and it keeps a run's short-lived garbage from being frozen in.
            gc.collect(1)
            gc.freeze()
        self._changes = 0
