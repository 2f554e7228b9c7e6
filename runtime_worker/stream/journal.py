"""Every event of every run on its way into Redis, so that any worker can show a run again, and end it when ours dies.

A run's events are one Redis stream, `run:{run_id}:events`. Its ids are `<epoch>-<seq of the last event in the entry>`:
the epoch rises when another worker takes a run over, and Redis refuses an id below the newest, so a worker that was
paused and wakes up cannot add to what its successor began.

Nothing waits for Redis, but bytes reach the kernel on their way there *before* they do on their way to a client: a
worker that is killed has lost nothing that anybody was shown. What is waiting is written at once when little happens,
and every `WINDOW_SECONDS` when much does; that is what makes it cheap. What was written is kept until Redis has
said that it came through, and written again over the next connection: Redis refuses what it has, by the ids.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from shared.logging import get_logger

WINDOW_SECONDS = 0.002
"""So long may an event wait for others while events are dense: a system call for each would cost more than encoding."""
WRITTEN_AT_ONCE = 4
"""So many writes may follow each other without waiting, after as many windows in which nothing was written: a run's
beginning and its first token come within one, and where little happens nobody is there to share a write with."""
_AHEAD_SECONDS = (WRITTEN_AT_ONCE - 1) * WINDOW_SECONDS

RUNNING_SECONDS = 24 * 3600
"""How long the events of a run are kept that nobody ever ended; no run is that long."""

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""So much is kept for a Redis that is away, half a million tokens; what runs tell beyond it cannot be resumed."""

CONFIRM_SECONDS = 0.25
"""How often Redis is asked whether it has all that was written: what is not confirmed is kept."""
ANSWER_SECONDS = 2.0
"""A connection over which no confirmation comes in that time is dead."""

RETRY_SECONDS = 0.25
_CONFIRM = b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"
"""Answered by one `+OK`, behind everything that was written before: only turning answers on is answered."""

log = get_logger(__name__)


def events_key(run_id: UUID) -> str:
    return f"run:{run_id}:events"


class RunLog:
    """The events of one run, as one epoch of it tells them."""

    def __init__(self, journal: "EventJournal", run_id: UUID, epoch: int) -> None:
        self._journal = journal
        self._key = events_key(run_id).encode()
        # What its entries have in common is put together once: most are a single token's, and this was a third of it.
        self._added = b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(self._key), self._key)
        self._epoch = epoch
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

    def before_clients(self, tell: Callable[[], object]) -> None:
        """Call `tell`, which gives clients what was added, once that is on its way to Redis."""
        self._journal.after_writing(tell)

    def cut_short(self) -> None:
        """There is no room for what was added, nor for what comes: what is kept of a run has no holes."""
        self._events = []
        self._is_cut_short = True

    def commands(self, keep_seconds: int) -> bytes:
        """Take what was added, as commands for Redis."""
        events, entry_id = self._events, b"%d-%d" % (self._epoch, self._last_seq)
        self._events = []
        if self._ends:
            added = _command(b"XADD", self._key, entry_id, b"e", b"".join(events), b"end", b"1")
            return added + _command(b"EXPIRE", self._key, b"%d" % keep_seconds)
        told = events[0] if len(events) == 1 else b"".join(events)
        added = b"%b$%d\r\n%b\r\n$1\r\ne\r\n$%d\r\n%b\r\n" % (self._added, len(entry_id), entry_id, len(told), told)
        if not self._is_begun:
            self._is_begun = True
            return added + _command(b"EXPIRE", self._key, b"%d" % RUNNING_SECONDS)
        return added


class EventJournal:
    """One connection that asks for no answers (`CLIENT REPLY OFF`), and what is waiting to be written to it.

    `may_show` tells whether this worker still vouches for its runs as far as it knows. While it does not, as after a
    pause, clients get nothing: a run that was taken over meanwhile has been told otherwise by now.
    """

    def __init__(self, redis: "Redis", *, keep_seconds: int, may_show: Callable[[], bool] = lambda: True) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds
        self._may_show = may_show
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: list[RunLog] = []
        self._clients: list[Callable[[], object]] = []
        self._is_due = self._is_waited_for = False
        self._used_until = 0.0
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._has_kept = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._writer is not None

    def write_last(self, *words: bytes) -> None:
        """A command of one's own, behind all events that were told until now. Not kept like them: it says what is so
        now, and nothing is lost when it does not arrive."""
        self.flush()
        if self._writer is not None:
            self._writer.write(_command(*words))

    def begin(self, run_id: UUID, epoch: int = 1) -> RunLog:
        return RunLog(self, run_id, epoch)

    def note(self, run: RunLog) -> None:
        self._waiting.append(run)
        self._schedule()

    def after_writing(self, tell: Callable[[], object]) -> None:
        self._clients.append(tell)
        self._schedule()

    def flush(self) -> None:
        """Write what is waiting, then let the clients have it."""
        now = asyncio.get_running_loop().time()
        # Each write takes up a window, those that nobody used first. Timers are late: that leaves none unused.
        used_until = now + _AHEAD_SECONDS if self._is_waited_for else max(self._used_until, now)
        self._used_until = used_until + WINDOW_SECONDS
        self._is_due = self._is_waited_for = False
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            if self._kept_bytes < MAX_KEPT_BYTES:
                self._write(b"".join([run.commands(self._keep_seconds) for run in waiting]))
            else:
                for run in waiting:
                    run.cut_short()
        self.show()

    def show(self) -> None:
        """Let the clients have what is written, if they may."""
        if self._clients and self._may_show():
            clients, self._clients = self._clients, []
            for tell in clients:
                tell()

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        while True:
            try:
                await self._connected()
            except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.warning("event_journal_cut_off", reason=type(error).__name__, kept_bytes=self._kept_bytes)
            await asyncio.sleep(RETRY_SECONDS)

    def _write(self, commands: bytes) -> None:
        self._kept.append(commands)
        self._kept_bytes += len(commands)
        self._has_kept.set()
        # One that closes is about to be noticed, and what is kept is written over the next.
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(commands)

    async def _connected(self) -> None:
        pool = self._redis.connection_pool
        connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
            # redis-py has no way to write without waiting, which is all that this connection is for.
            reader, writer = connection._reader, connection._writer
            assert reader is not None  # noqa: S101 - connected
            assert writer is not None  # noqa: S101 - connected
            if writer.is_closing():
                return
            # Not confirmed over the connection before this one, which may have lost it.
            writer.writelines(self._kept)
            self._writer = writer
            await self._confirm(reader, writer)
        finally:
            self._writer = None
            await connection.disconnect(nowait=True)

    async def _confirm(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let go of what has come through, again and again. Returns or raises when the connection is gone."""
        while True:
            # Nothing is answered in between: that a read returns before anything is asked means that it is gone.
            gone = asyncio.create_task(reader.read(1))
            some = asyncio.create_task(self._has_kept.wait())
            try:
                await asyncio.wait({gone, some}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
            finally:
                gone.cancel()
                some.cancel()
                await asyncio.gather(gone, some, return_exceptions=True)
            if writer.is_closing():
                return
            written = len(self._kept)
            writer.write(_CONFIRM)
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await reader.readuntil(b"\r\n")
            if answer != b"+OK\r\n":
                raise ConnectionError("an answer that was not asked for")
            for _ in range(written):
                self._kept_bytes -= len(self._kept.popleft())
            if not self._kept:
                self._has_kept.clear()
            await asyncio.sleep(CONFIRM_SECONDS)

    def _schedule(self) -> None:
        if self._is_due:
            return
        self._is_due = True
        loop = asyncio.get_running_loop()
        wait = self._used_until - _AHEAD_SECONDS - loop.time()
        if wait <= 0:
            loop.call_soon(self.flush)
        else:
            self._is_waited_for = True
            loop.call_later(wait, self.flush)


def _command(*words: bytes) -> bytes:
    """A command in Redis's own protocol (RESP), which is lengths and line ends."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
