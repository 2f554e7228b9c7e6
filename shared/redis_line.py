"""A client of Redis whose questions share one connection.

redis-py gives every question a connection to itself and goes with it through its pool, retries, timeouts and telemetry:
on the way of a request that is more work than all that the question is about. Redis answers in the order in which it is
asked, so that one connection does for all of a process, and a question is a future and its part of a write.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, InvalidResponse, NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

DRIVER = DriverInfo()
"""What every connection says of its client. Without it each would take half a millisecond to look up which version is
installed.
"""

_ATTEMPTS = 2
"""One retry covers a connection that was lost meanwhile; more would only hide that Redis is away."""

_WAITING = ("XREAD", "XREADGROUP", "BLPOP", "BRPOP", "BLMOVE", "BZPOPMIN", "BZPOPMAX", "WAIT")
"""Commands that may wait on purpose: nobody else should wait behind them."""

_NOTHING = object()


class LineRedis(Redis):
    """redis-py's client in everything but the way that single commands go. Answers are bytes.

    Pipelines, subscriptions and commands that wait take connections of the pool, as ever.
    """

    _line: "_Line | None" = None
    _connecting: "asyncio.Task[_Line] | None" = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Raises what redis-py raises: RedisError for whatever keeps an answer away."""
        name = args[0]
        if name in _WAITING or self.single_connection_client:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        command = _packed((*name.split(), *args[1:]) if " " in name else args)
        # redis-py turns answers into what its callers expect; all that it asks of a connection is the answer.
        answer = cast("Connection", _Answer(self.ask(command)))
        return await self.parse_response(answer, name, **options)

    def register_script(self, script: str | bytes) -> AsyncScript:  # type: ignore[override]
        return LineScript(self, script)

    async def ask(self, command: bytes) -> Any:
        """The answer to a command in Redis's own protocol, as Redis gives it. Raises what redis-py raises."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                line = self._line
                if line is None or line.is_lost:
                    line = await self._connected()
                return await line.ask(command)
            except (RedisConnectionError, RedisTimeoutError):
                if attempt == _ATTEMPTS:
                    raise
        return None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._line is not None:
            await self._line.close()
        await super().aclose(close_connection_pool)

    async def _connected(self) -> "_Line":
        """Whoever comes while a connection is being made takes that one, or what became of it."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._forget_attempt)
        # One caller that leaves must not take the attempt from the others.
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> "_Line":
        pool = self.connection_pool
        # Once: whoever asks tries again.
        once = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
        connection: AbstractConnection = pool.connection_class(**once)
        # Says who we are and which database is meant, over TLS where the address says so.
        await connection.connect()  # type: ignore[no-untyped-call]
        self._line = _Line(connection)
        return self._line

    def _forget_attempt(self, attempt: "asyncio.Task[_Line]") -> None:
        self._connecting = None
        if not attempt.cancelled():
            # Those who waited for it were told; there may be nobody left.
            attempt.exception()


class LineScript(AsyncScript):
    """Asked past what redis-py does for pipelines and clusters, and past what it makes of answers: nothing of these."""

    async def __call__(
        self, keys: Sequence[Any] | None = None, args: Iterable[Any] | None = None, client: Any = None
    ) -> Any:
        line = self.registered_client
        if client is None and isinstance(line, LineRedis) and not line.single_connection_client:
            keys, args = keys or (), tuple(args or ())
            try:
                return await line.ask(_packed(("EVALSHA", self.sha, len(keys), *keys, *args)))
            except NoScriptError:
                pass  # Redis has not seen it yet, or was emptied.
        return await super().__call__(keys, args, client)  # type: ignore[no-untyped-call]


def _packed(words: tuple[Any, ...]) -> bytes:
    try:
        return cast("bytes", hiredis.pack_command(words))
    except TypeError as error:
        raise DataError(str(error)) from None


class _Answer:
    """As much of a connection as redis-py needs to read an answer."""

    def __init__(self, answer: Coroutine[Any, Any, Any]) -> None:
        self._answer = answer

    async def read_response(self, disable_decoding: bool = False) -> Any:
        return await self._answer


class _Line(asyncio.Protocol):
    """One connection. Takes over the socket that redis-py has opened."""

    def __init__(self, connection: AbstractConnection) -> None:
        # Kept, because its writer closes the socket when it goes.
        self._connection = connection
        writer = connection._writer
        assert writer is not None  # noqa: S101 - connected
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOTHING,
        )
        self._seconds: float | None = connection.socket_timeout
        self._asked: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._unsent: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self._lose(RedisConnectionError("the connection was closed by the server"))

    def ask(self, command: bytes) -> "asyncio.Future[Any]":
        """What Redis answers. The caller may stop waiting for it at any time."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append((self._loop.time(), answer))
        # What is asked in the same round of the loop goes in one write: that costs more than all else of a question.
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(command)
        if self._watch is None and self._seconds is not None:
            self._watch = self._loop.call_later(self._seconds, self._look)
        return answer

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self.is_lost:
            self._transport.write(b"".join(unsent))

    async def close(self) -> None:
        self._lose(RedisConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not _NOTHING:
                if isinstance(answer, hiredis.PushNotification):
                    continue
                if not self._asked:
                    raise InvalidResponse("an answer that was not asked for")
                self._answered(answer)
        except InvalidResponse as error:
            self._lose(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(RedisConnectionError(f"the connection was lost ({type(exc).__name__ if exc else 'closed'})"))

    def _answered(self, answer: Any) -> None:
        _, waiting = self._asked.popleft()
        if waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _look(self) -> None:
        """One timer for all: the oldest question is the first to be too old."""
        self._watch = None
        if not self._asked or self._seconds is None:
            return
        left = self._asked[0][0] + self._seconds - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            # What comes now would be taken for the answer to something else.
            self._lose(RedisTimeoutError("Redis did not answer in time"))

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        asked, self._asked = self._asked, deque()
        for _, waiting in asked:
            if not waiting.done():
                waiting.set_exception(error)
