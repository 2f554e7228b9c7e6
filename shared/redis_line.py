"""A Redis client whose short questions, those of every request, go over one connection one behind the other.

Taking a connection out of a pool, sending on it alone and waiting for its answer alone costs this process several times
what Redis needs to answer. Here questions that come together leave together and are answered together.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

_SHORT = frozenset({"EVALSHA", "GET", "MGET"})
"""What is answered at once and as it is. Nothing that waits: it would let everybody behind it wait."""

_READ_BYTES = 64 * 1024


class LinedRedis(Redis):
    """Its answers, errors and repetitions are those of the client it is."""

    _line: "_Line | None" = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] not in _SHORT or options or self.connection is not None:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        packed = hiredis.pack_command(args)
        try:
            return await (await self._connected()).ask(packed)
        except (RedisConnectionError, RedisTimeoutError):
            # Once more on a fresh connection hides a server's restart from whoever comes next.
            return await (await self._connected()).ask(packed)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._line is not None:
            await self._line.close()
        await super().aclose(close_connection_pool)

    async def _connected(self) -> "_Line":
        line = self._line
        if line is None or line.is_lost:
            # Before anything is awaited, so that all who come meanwhile wait for the same one.
            line = self._line = _Line(self.connection_pool)
        await line.connected()
        return line


class _Line:
    """One connection, from its beginning to its end."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.is_lost = False
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._seconds: float = self._connection.socket_timeout or 5.0
        self._answers = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._outgoing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._opening = self._loop.create_task(self._open())
        self._reading: asyncio.Task[None] | None = None

    async def connected(self) -> None:
        """Raises RedisError."""
        if self._reading is None:
            # One of those who wait may leave; the others still want it.
            await asyncio.shield(self._opening)

    def ask(self, packed: bytes) -> "asyncio.Future[Any]":
        """The answer, or the error that it is. Raises RedisConnectionError, RedisTimeoutError."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.is_lost:
            answer.set_exception(RedisConnectionError("the connection to Redis is lost"))
            return answer
        if not self._outgoing:
            self._loop.call_soon(self._send)
        self._outgoing.append(packed)
        self._waiting.append((answer, self._loop.time()))
        if self._watch is None:
            self._watch = self._loop.call_later(self._seconds, self._look_after)
        return answer

    async def close(self) -> None:
        self._lose(RedisConnectionError("the connection to Redis is closed"))
        tasks = [task for task in (self._opening, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        try:
            await self._connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            self.is_lost = True
            raise
        self._reading = self._loop.create_task(self._read())

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        writer = self._connection._writer
        if not self.is_lost and writer is not None:
            writer.write(b"".join(outgoing))

    async def _read(self) -> None:
        reader = self._connection._reader
        assert reader is not None  # noqa: S101 - it is connected
        why: Exception = RedisConnectionError("Redis closed the connection")
        try:
            while data := await reader.read(_READ_BYTES):
                self._answers.feed(data)
                while (answer := self._answers.gets()) is not False:
                    self._answer(answer)
        except (OSError, InvalidResponse) as error:
            why = RedisConnectionError(f"the connection to Redis is lost: {type(error).__name__}")
        finally:
            self._lose(why)

    def _answer(self, answer: Any) -> None:
        if isinstance(answer, hiredis.PushNotification):
            return
        waiting, _ = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _look_after(self) -> None:
        """One timer for all of them: the first in the line has waited longest."""
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0][1] + self._seconds - self._loop.time()
        if left <= 0:
            self._lose(RedisTimeoutError("Redis does not answer"))
        else:
            self._watch = self._loop.call_later(left, self._look_after)

    def _lose(self, why: Exception) -> None:
        if self.is_lost and not self._waiting:
            return
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            waiting, _ = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(why)
        if self._connection._writer is not None:
            self._connection._writer.close()
