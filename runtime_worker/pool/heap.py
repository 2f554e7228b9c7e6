"""Keeping the garbage collector from stopping live streams.

A full collection looks at every object that can form cycles: 134 ms after imports alone, 366 ms with a thousand
instances. What will live for long is therefore frozen, out of the collector's sight, after imports and after builds.
Frozen orchestrators that were retired are only found again by an unfrozen collection, which waits for an idle moment.
"""

import gc
from collections.abc import Callable

from shared.heap import freeze_what_is_there

FREEZE_BUILDS = 4
"""So many new builds at most are looked at by a young collection: each has some thousand objects, a millisecond's work,
and a start builds hundreds one after the other while streams are live."""

MAX_RETIRED = 500
"""So many replaced builds may stay uncollected under load that never pauses; then one stall is the lesser evil."""


class Heap:
    """Call `built` after every build and `tidy` now and then, outside of any hot path."""

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._unfrozen = 0
        self._built = False
        self._retired = 0

    def started(self) -> None:
        """All imports are done: collect once and freeze what is left."""
        freeze_what_is_there()

    def built(self, *, replaces: bool) -> None:
        self._unfrozen += 1
        self._built = True
        self._retired += replaces
        if self._unfrozen >= FREEZE_BUILDS:
            self._freeze()

    def tidy(self) -> None:
        is_quiet = self._is_idle() and self._unfrozen == 0
        if (self._built and is_quiet) or self._retired >= MAX_RETIRED:
            self._built, self._retired = False, 0
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        elif self._unfrozen:
            self._freeze()
        self._unfrozen = 0

    def _freeze(self) -> None:
        # Only the young generations: cheap, and it keeps a run's short-lived garbage from being frozen in.
        gc.collect(1)
        gc.freeze()
        self._unfrozen = 0
