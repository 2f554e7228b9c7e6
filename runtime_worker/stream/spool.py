"""Where events go before clients get them while it is in doubt that Redis has them, or hears this worker at all.

Redis may be away; or this worker alone is cut off from it, and another has taken its runs over meanwhile. So what is
told of a run is put where every worker finds it, by one write that fails once another worker has the run, and shown
then. Who takes a run over closes its spool to whoever had it and goes on behind what it finds there.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, cast
from uuid import UUID

import hiredis

from runtime_worker.stream.journal import EventJournal
from runtime_worker.stream.run_log import Written
from runtime_worker.stream.story import Entry, ToldEvent, events_in
from shared.errors import DomainError, NotFound, StoreUnavailable
from shared.logging import get_logger

GATHER_SECONDS = 0.05
"""So long events wait for others, since a write costs as much as many of them: streams flow a little less evenly."""

RETRY_SECONDS = 0.25
FORGET_SECONDS = 5.0
"""How often what has reached Redis by now is looked for, to be removed."""

log = get_logger(__name__)


class RunEpoch(NamedTuple):
    """A run as one of the workers drives it that it had."""

    run_id: UUID
    epoch: int


class Spooled(NamedTuple):
    """Whole events, as bytes, and whether the run ends with them."""

    events: bytes
    is_last: bool = False


class EventSpool(Protocol):
    """Implemented by a store that is not Redis. Raises DomainError when it does not answer."""

    async def keep(self, org_id: UUID, events: Mapping[RunEpoch, Sequence[Spooled]]) -> set[UUID]:
        """Add to what is kept of runs; those of which a later epoch is known, of which nothing is added."""
        ...

    async def close(self, org_id: UUID, run: RunEpoch) -> Sequence[Spooled]:
        """What is kept of a run, in the order it came, some of it repeatedly. Nothing of earlier epochs is added any
        more."""
        ...

    async def forget(self, org_id: UUID, runs: Sequence[RunEpoch]) -> None:
        """Remove what is kept of runs, unless a later epoch has them."""
        ...


def behind(spooled: Sequence[Spooled], seq: int) -> list[Entry]:
    """What follows event `seq` without a gap, each event once and as an entry of its own."""
    rest: list[Entry] = []
    for event, is_last in sorted(_events(spooled), key=lambda told: told[0].seq):
        if event.seq == seq + 1:
            seq += 1
            rest.append(Entry("", (event,), is_last))
    return rest


class Spooler:
    """Takes what the journal is in doubt about. `lose` is called with the id of a run that turns out to be another
    worker's."""

    def __init__(self, journal: EventJournal, spool: EventSpool, lose: Callable[[UUID], None]) -> None:
        self._journal = journal
        self._spool = spool
        self._lose = lose
        self._kept: dict[UUID, set[RunEpoch]] = {}
        self._is_failing = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(FORGET_SECONDS if self._kept else None):
                    await self._journal.in_doubt.wait()
            except TimeoutError:
                await self._forget()
                continue
            await asyncio.sleep(GATHER_SECONDS)
            await self._spool_some()

    async def _spool_some(self) -> None:
        written = self._journal.take_doubtful()
        try:
            lost, unspooled = await self._keep(written)
        except StoreUnavailable:
            self._journal.put_back(written)
            if not self._is_failing:
                # Both stores are away: streams stand still until one of them is back.
                log.warning("events_not_spooled")
            self._is_failing = True
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._is_failing = False
        for run_id in lost:
            log.error("run_was_taken_over", run_id=str(run_id))
            self._lose(run_id)
        self._journal.spooled(lost | unspooled)

    async def _keep(self, written: Sequence[Written]) -> tuple[set[UUID], set[UUID]]:
        """The runs that another worker has, and those of which something cannot be kept. Raises StoreUnavailable."""
        by_organization: dict[UUID, dict[RunEpoch, list[Spooled]]] = defaultdict(lambda: defaultdict(list))
        for org_id, run, told in _told(written):
            by_organization[org_id][run].append(told)
        answers = await asyncio.gather(*(self._keep_of(*of_one) for of_one in by_organization.items()))
        return set[UUID]().union(*(lost for lost, _ in answers)), set[UUID]().union(*(rest for _, rest in answers))

    async def _keep_of(self, org_id: UUID, events: Mapping[RunEpoch, Sequence[Spooled]]) -> tuple[set[UUID], set[UUID]]:
        try:
            lost = await self._spool.keep(org_id, events)
        except StoreUnavailable:
            raise
        except NotFound:  # It is being purged, with all that its runs said.
            return set(), set()
        except Exception:  # What one organization's runs say, which may be too much, must not hold up the others'.
            log.exception("events_not_spooled", org_id=str(org_id))
            return set(), {run.run_id for run in events}
        self._kept.setdefault(org_id, set()).update(events)
        return lost, set()

    async def _forget(self) -> None:
        if not self._journal.is_confirmed:
            return
        for org_id, runs in list(self._kept.items()):
            try:
                await self._spool.forget(org_id, list(runs))
            except DomainError as error:
                log.warning("spool_not_emptied", org_id=str(org_id), reason=type(error).__name__)
            # It expires by itself, too.
            del self._kept[org_id]


def _told(written: Sequence[Written]) -> Iterator[tuple[UUID, RunEpoch, Spooled]]:
    """The events among commands for Redis, which are made of the same parts as its answers."""
    reader = hiredis.Reader()
    for commands, logs in written:
        run_of = {log.key: log for log in logs}
        reader.feed(commands)
        while (command := cast("list[bytes] | bool", reader.gets())) is not False:
            words = cast("list[bytes]", command)
            if words[0] == b"XADD":
                of = run_of[words[1]]
                yield of.org_id, RunEpoch(of.run_id, of.epoch), Spooled(words[4], is_last=len(words) > 5)


def _events(spooled: Sequence[Spooled]) -> Iterator[tuple[ToldEvent, bool]]:
    for told, is_last in spooled:
        events = events_in(told)
        for event in events:
            yield event, is_last and event is events[-1]
