"""The events of one run on their way into the journal: what is written of them, and who is told after that."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

RUNNING_SECONDS = 24 * 3600
"""How long the events of a run are kept that nobody ever ended; no run is that long."""


def events_key(run_id: UUID) -> str:
    return f"run:{run_id}:events"


class Listener(Protocol):
    """Who shows a client what was told of a run. What is there by the time of `cover`, or all of it without that, may
    be shown when `tell` is called; nothing more after `cut`."""

    run_id: UUID
    tell: Callable[[], object]

    def cover(self) -> None: ...
    def cut(self) -> None: ...


class Written(NamedTuple):
    """What was written to Redis at once, and of which runs that is."""

    commands: bytes
    runs: Sequence["RunLog"]


class Journal(Protocol):
    """Where it is written."""

    def note(self, run: "RunLog") -> None: ...
    def after_writing(self, listener: Listener) -> None: ...


class RunLog:
    """The events of one run, as one epoch of it tells them."""

    def __init__(self, journal: Journal, org_id: UUID, run_id: UUID, epoch: int) -> None:
        self.org_id = org_id
        self.run_id = run_id
        self.epoch = epoch
        self._journal = journal
        self.key = events_key(run_id).encode()
        # What its entries have in common is put together once: most are a single token's, and this was a third of it.
        self._added = b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(self.key), self.key)
        self._events: list[bytes] = []
        self._last_seq = 0
        self._is_open = False
        self._is_begun = False
        self._ends = False
        self._is_cut_short = False

    def open(self) -> None:
        """The run is on record: what was told of it until now, and all that follows, may be written."""
        self._is_open = True
        if self._events:
            self._journal.note(self)

    def add(self, seq: int, event: bytes, *, is_last: bool = False) -> None:
        """Have an event written, with whatever else comes within the window."""
        if self._is_cut_short:
            return
        if not self._events and self._is_open:
            self._journal.note(self)
        self._events.append(event)
        self._last_seq = seq
        self._ends = is_last

    def before_clients(self, listener: Listener) -> None:
        """Tell whoever shows clients what was added, once that is on its way to Redis."""
        self._journal.after_writing(listener)

    def cut_short(self) -> None:
        """There is no room for what was added, nor for what comes: what is kept of a run has no holes."""
        self._events = []
        self._is_cut_short = True

    def commands(self, keep_seconds: int) -> bytes:
        """Take what was added, as commands for Redis."""
        events, entry_id = self._events, b"%d-%d" % (self.epoch, self._last_seq)
        self._events = []
        if self._ends:
            added = command(b"XADD", self.key, entry_id, b"e", b"".join(events), b"end", b"1")
            return added + command(b"EXPIRE", self.key, b"%d" % keep_seconds)
        told = events[0] if len(events) == 1 else b"".join(events)
        added = b"%b$%d\r\n%b\r\n$1\r\ne\r\n$%d\r\n%b\r\n" % (self._added, len(entry_id), entry_id, len(told), told)
        if not self._is_begun:
            self._is_begun = True
            return added + command(b"EXPIRE", self.key, b"%d" % RUNNING_SECONDS)
        return added


def command(*words: bytes) -> bytes:
    """A command in Redis's own protocol (RESP), which is lengths and line ends."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
