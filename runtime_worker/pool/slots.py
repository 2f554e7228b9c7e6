"""Whose build goes first: few at a time, whoever waits before what only prepares, and no organization alone."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from enum import IntEnum
from uuid import UUID

PARALLEL_BUILDS = 6
"""Most of a build is waiting, for a snapshot or for a plugin's process; what is left shares the loop with streams."""

OF_ONE_ORGANIZATION = 2
"""So that plugins that start slowly delay the builds of their own organization only."""


class Urgency(IntEnum):
    REQUESTED = 0
    """A request waits for it."""
    SERVING = 1
    """An older build serves meanwhile."""
    PREPARED = 2
    """Nobody has asked yet."""


class _Waiting:
    def __init__(self, org_id: UUID, urgency: Urgency, number: int) -> None:
        self.org_id = org_id
        self.urgency = urgency
        self.number = number
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class BuildSlots:
    """A semaphore with an order of its own."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Waiting] = {}
        self._running: Counter[UUID] = Counter()
        self._numbers = itertools.count()

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def one(self, entry: Hashable, org_id: UUID, urgency: Urgency) -> AsyncIterator[None]:
        """Hold a slot for the one build of an entry."""
        waiting = self._waiting[entry] = _Waiting(org_id, urgency, next(self._numbers))
        self._give()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if self._waiting.pop(entry, None) is None:
                # The turn came together with the cancellation.
                self._end(org_id)
            raise
        try:
            yield
        finally:
            self._end(org_id)

    def hurry(self, entry: Hashable) -> None:
        """Somebody began to wait for it."""
        if waiting := self._waiting.get(entry):
            waiting.urgency = Urgency.REQUESTED

    def _end(self, org_id: UUID) -> None:
        self._running[org_id] -= 1
        if not self._running[org_id]:
            del self._running[org_id]
        self._give()

    def _give(self) -> None:
        for entry, waiting in list(self._next()):
            del self._waiting[entry]
            self._running[waiting.org_id] += 1
            waiting.turn.set_result(None)

    def _next(self) -> Iterator[tuple[Hashable, _Waiting]]:
        free = PARALLEL_BUILDS - self._running.total()
        if free <= 0:
            return
        given: Counter[UUID] = Counter()
        in_order = sorted(self._waiting.items(), key=lambda item: (item[1].urgency, item[1].number))
        for entry, waiting in in_order:
            # One whose task was cancelled takes itself out as soon as it runs.
            if waiting.turn.done():
                continue
            if self._running[waiting.org_id] + given[waiting.org_id] < OF_ONE_ORGANIZATION:
                given[waiting.org_id] += 1
                yield entry, waiting
                free -= 1
                if not free:
                    return
