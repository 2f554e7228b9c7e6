"""Every event of every run on its way into Redis, so that any worker can show a run again, and end it when ours dies.

A run's events are one Redis stream, `run:{run_id}:events`. Its ids are `<epoch>-<seq of the last event in the entry>`:
the epoch rises when another worker takes a run over, and Redis refuses an id below the newest, so a worker that was
paused and wakes up cannot add to what its successor began.

Nothing waits for Redis, but bytes reach the kernel on their way there *before* they do on their way to a client: a
worker that is killed has lost nothing that anybody was shown. What is waiting is written at once when little happens,
and every `WINDOW_SECONDS` when much does; that is what makes it cheap. What was written is kept until Redis has
said that it came through, and written again over the next connection: Redis refuses what it has, by the ids.

What is written while that is in doubt, because Redis is away or the claims may have run out, goes into the spool first
(`spool.py`), and clients get it then.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from runtime_worker.stream.run_log import Listener, RunLog, Written, command
from shared.logging import get_logger

WINDOW_SECONDS = 0.002
"""So long may an event wait for others while events are dense: a system call for each would cost more than encoding."""
WRITTEN_AT_ONCE = 4
"""So many writes may follow each other without waiting, after as many windows in which nothing was written: a run's
beginning and its first token come within one, and where little happens nobody is there to share a write with."""
_AHEAD_SECONDS = (WRITTEN_AT_ONCE - 1) * WINDOW_SECONDS

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


class EventJournal:
    """One connection that asks for no answers (`CLIENT REPLY OFF`), and what is waiting to be written to it.

    `is_vouched_for` tells whether it is certain that this worker's runs are its own. While it is not, as after a pause,
    or while Redis is away, clients get nothing but what is spooled: a run that was taken over meanwhile has been told
    otherwise by now. `has_spool` says whether somebody takes what is `in_doubt`.
    """

    def __init__(
        self,
        redis: "Redis",
        *,
        keep_seconds: int,
        is_vouched_for: Callable[[], bool] = lambda: True,
        has_spool: bool = False,
    ) -> None:
        self._redis = redis
        self._keep_seconds = keep_seconds
        self._is_vouched_for = is_vouched_for
        self._has_spool = has_spool
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: list[RunLog] = []
        self._listeners: list[Listener] = []
        self._covered: list[Listener] = []
        self._is_due = self._is_waited_for = False
        self._used_until = 0.0
        self._kept: deque[Written] = deque()
        self._kept_bytes = 0
        self._has_kept = asyncio.Event()
        self._doubtful: list[Written] | None = None
        self.in_doubt = asyncio.Event()
        """Whether somebody waits for what only the spool can make certain."""

    @property
    def is_connected(self) -> bool:
        return self._writer is not None and not self._writer.is_closing()

    @property
    def is_confirmed(self) -> bool:
        """Whether Redis has all that was written."""
        return self.is_connected and not self._kept

    def write_last(self, *words: bytes) -> None:
        """A command of one's own, behind all events that were told until now. Not kept like them: it says what is so
        now, and nothing is lost when it does not arrive."""
        self.flush()
        if self._writer is not None:
            self._writer.write(command(*words))

    def begin(self, org_id: UUID, run_id: UUID, epoch: int = 1) -> RunLog:
        return RunLog(self, org_id, run_id, epoch)

    def note(self, run: RunLog) -> None:
        self._waiting.append(run)
        self._schedule()

    def after_writing(self, listener: Listener) -> None:
        self._listeners.append(listener)
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
                self._write(Written(b"".join([run.commands(self._keep_seconds) for run in waiting]), waiting))
            else:
                for run in waiting:
                    run.cut_short()
        self.show()

    def show(self) -> None:
        """Let the clients have what is written, if that is certain; else it has to be spooled."""
        if not self._listeners and self._doubtful is None:
            return
        if self._is_certain():
            self._doubtful = None
            listeners, self._listeners = self._listeners, []
            for listener in listeners:
                listener.tell()
        elif self._listeners:
            self._doubt()

    def take_doubtful(self) -> list[Written]:
        """What has to be spooled, followed by `spooled` or `put_back`; nothing when it has become certain meanwhile."""
        self.flush()
        self.in_doubt.clear()
        if self._doubtful is None:
            return []
        written, self._doubtful = self._doubtful, []
        self._covered, self._listeners = self._listeners, []
        for listener in self._covered:
            listener.cover()
        return written

    def spooled(self, lost: Collection[UUID]) -> None:
        """Let the clients have what was taken, but for what was `lost`: runs that another worker has."""
        covered, self._covered = self._covered, []
        for listener in covered:
            if listener.run_id in lost:
                listener.cut()
            listener.tell()

    def put_back(self, written: Sequence[Written]) -> None:
        """It could not be spooled."""
        covered, self._covered = self._covered, []
        self._listeners[:0] = covered
        if self._doubtful is not None:
            self._doubtful[:0] = written
        self.show()

    def lose(self, run_id: UUID) -> None:
        """Another worker has the run: what still waits to be shown of it never is. It may have ended here."""
        for listener in (*self._listeners, *self._covered):
            if listener.run_id == run_id:
                listener.cut()

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        while True:
            try:
                await self._connected()
            except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.warning("event_journal_cut_off", reason=type(error).__name__, kept_bytes=self._kept_bytes)
            await asyncio.sleep(RETRY_SECONDS)

    def _doubt(self) -> None:
        if self._doubtful is None:
            self._doubtful = list(self._kept)
        self.in_doubt.set()

    def _is_certain(self) -> bool:
        """Whether what is written reaches Redis, and is heard there."""
        return (self.is_connected or not self._has_spool) and self._is_vouched_for()

    def _write(self, written: Written) -> None:
        self._kept.append(written)
        self._kept_bytes += len(written.commands)
        self._has_kept.set()
        if self._doubtful is not None:
            self._doubtful.append(written)
        # One that closes is about to be noticed, and what is kept is written over the next.
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(written.commands)

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
            writer.writelines([written.commands for written in self._kept])
            self._writer = writer
            self.show()
            await self._confirm(reader, writer)
        finally:
            self._writer = None
            if self._kept and self._has_spool:
                # Clients were shown some of it, and it may never have arrived.
                self._doubt()
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
                self._kept_bytes -= len(self._kept.popleft().commands)
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
