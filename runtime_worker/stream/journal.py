"""Every event of every run on its way into Redis, so that any worker can show a run again, and end it when ours dies.

A run's events are one Redis stream, `run:{run_id}:events`. Its ids are `<epoch>-<seq of the last event in the entry>`:
the epoch rises when another worker takes a run over, and Redis refuses an id below the newest, so a worker that was
paused and wakes up cannot add to what its successor began.

Nothing waits for Redis, but bytes reach the kernel on their way there *before* they do on their way to a client: a
worker that is killed has lost nothing that anybody was shown. What is waiting is written at once when little happens,
and at most every `WINDOW_SECONDS` when much does; that is what makes it cheap.
"""

import asyncio
from collections.abc import Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from shared.logging import get_logger

WINDOW_SECONDS = 0.002
"""So long may an event wait for others while events are dense: a system call for each would cost more than encoding."""

RUNNING_SECONDS = 24 * 3600
"""How long the events of a run are kept that nobody ever ended; no run is that long."""

MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""A Redis that takes nothing for so long is away; what would come on top is not written at all."""

RETRY_SECONDS = 0.5

log = get_logger(__name__)


def events_key(run_id: UUID) -> str:
    return f"run:{run_id}:events"


class RunLog:
    """The events of one run, as one epoch of it tells them."""

    def __init__(self, journal: "EventJournal", run_id: UUID, epoch: int) -> None:
        self._journal = journal
        self._key = events_key(run_id).encode()
        self._epoch = epoch
        self._events: list[bytes] = []
        self._last_seq = 0
        self._is_open = False
        self._is_begun = False
        self._ends = False

    def open(self) -> None:
        """The run is on record: what was told of it until now, and all that follows, may be written."""
        self._is_open = True
        if self._events:
            self._journal.note(self)

    def add(self, seq: int, event: bytes, *, is_last: bool = False) -> None:
        """Have an event written, with whatever else comes within the window."""
        if not self._events and self._is_open:
            self._journal.note(self)
        self._events.append(event)
        self._last_seq = seq
        self._ends = is_last

    def before_clients(self, tell: Callable[[], object]) -> None:
        """Call `tell`, which gives clients what was added, once that is on its way to Redis."""
        self._journal.after_writing(tell)

    def commands(self, keep_seconds: int) -> bytes:
        """Take what was added, as commands for Redis."""
        entry_id = b"%d-%d" % (self._epoch, self._last_seq)
        fields = (b"e", b"".join(self._events)) + ((b"end", b"1") if self._ends else ())
        self._events = []
        added = _command(b"XADD", self._key, entry_id, *fields)
        if self._ends:
            return added + _command(b"EXPIRE", self._key, b"%d" % keep_seconds)
        if not self._is_begun:
            self._is_begun = True
            return added + _command(b"EXPIRE", self._key, b"%d" % RUNNING_SECONDS)
        return added


class EventJournal:
    """One connection that asks for no answers (`CLIENT REPLY OFF`), and what is waiting to be written to it.

    While Redis is away nothing is kept for it: runs go on, are stored when they end, and cannot be resumed from events.
    """

    def __init__(self, redis: "Redis", *, keep_seconds: int) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: list[RunLog] = []
        self._clients: list[Callable[[], object]] = []
        self._is_due = False
        self._written_at = 0.0

    @property
    def is_connected(self) -> bool:
        return self._writer is not None

    def write_last(self, *words: bytes) -> None:
        """A command of one's own, behind all events that were told until now; lost like them when Redis is away."""
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
        self._is_due = False
        self._written_at = asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, []
        clients, self._clients = self._clients, []
        if waiting:
            commands = b"".join([run.commands(self._keep_seconds) for run in waiting])
            writer = self._writer
            if writer is not None and writer.transport.get_write_buffer_size() < MAX_UNSENT_BYTES:
                writer.write(commands)
        for tell in clients:
            tell()

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        while True:
            try:
                await self._connected()
            except (RedisError, OSError) as error:
                log.warning("event_journal_cut_off", reason=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _connected(self) -> None:
        pool = self._redis.connection_pool
        connection: AbstractConnection = pool.connection_class(**pool.connection_kwargs)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLIENT", "REPLY", "OFF", check_health=False)
            # redis-py has no way to write without waiting, which is all that this connection is for.
            reader, self._writer = connection._reader, connection._writer
            assert reader is not None  # noqa: S101 - connected
            # Nothing is ever answered here: that a read returns means that the connection is gone.
            await reader.read(1)
        finally:
            self._writer = None
            await connection.disconnect(nowait=True)

    def _schedule(self) -> None:
        if self._is_due:
            return
        self._is_due = True
        loop = asyncio.get_running_loop()
        wait = self._written_at + WINDOW_SECONDS - loop.time()
        if wait <= 0:
            loop.call_soon(self.flush)
        else:
            loop.call_later(wait, self.flush)


def _command(*words: bytes) -> bytes:
    """A command in Redis's own protocol (RESP), which is lengths and line ends."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
