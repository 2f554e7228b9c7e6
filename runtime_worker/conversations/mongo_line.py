"""One connection to MongoDB, and what goes over it: one command at a time, and its answer."""

import asyncio
from collections.abc import Sequence
from struct import Struct
from typing import Any, cast

from pymongo.asynchronous.pool import AsyncConnection
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    ExecutionTimeout,
    NotPrimaryError,
    OperationFailure,
    WTimeoutError,
)

NOT_PRIMARY = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})
"""Server codes for "not a primary" and "shutting down": the store is away, the request is not at fault."""

_DUPLICATE_KEY, _TOOK_TOO_LONG, _NOT_CONFIRMED_IN_TIME = 11000, 50, 64

_HEADER = Struct("<iiii")
_FLAGS = Struct("<I")
_LENGTH = Struct("<i")
_OP_MSG = 2013
"""The one kind of message that servers since 3.6 take and send."""

_DOCUMENT, _SEQUENCE = b"\0", b"\1"
_BEGINS = _HEADER.size + _FLAGS.size + len(_DOCUMENT)
"""Where the document of an answer begins."""

MAX_BYTES = 48_000_000
"""Of one message, either way: what every server says that it takes."""

_IS_OK = b"\x01ok\0" + Struct("<d").pack(1)
_PROBLEMS = (b"writeErrors", b"writeConcernError", b"errorLabels")


def message_of(document: bytes, rows: tuple[str, Sequence[bytes]] | None) -> bytes:
    """A command and, under the name that it has for them, the rows that it is about; all but the header."""
    parts = [_FLAGS.pack(0), _DOCUMENT, document]
    if rows is not None:
        name = rows[0].encode() + b"\0"
        length = _LENGTH.size + len(name) + sum(map(len, rows[1]))
        parts += [_SEQUENCE, _LENGTH.pack(length), name, *rows[1]]
    return b"".join(parts)


class MongoLine(asyncio.Protocol):
    """Takes over the socket of a connection that the driver has opened."""

    def __init__(self, connection: AsyncConnection) -> None:
        transport, self._driver = connection.conn.conn
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._last_request = 0
        self._answer: asyncio.Future[bytes] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Raises what the driver has to know of, if anything."""

        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_protocol(self)
        # The driver reads nothing while it expects nothing, and so would not see that a server leaves.
        self._transport.resume_reading()
        if self._transport.is_closing():
            self.end(AutoReconnect("the connection was closed by the server"))

    async def ask(self, message: bytes) -> bytes:
        """The document of the answer. Raises AutoReconnect when the connection ends before."""
        if self.ended.done():
            raise AutoReconnect("the connection has ended")
        self._last_request += 1
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._answer = answer
        length = _HEADER.size + len(message)
        self._transport.write(_HEADER.pack(length, self._last_request, 0, _OP_MSG) + message)
        try:
            return await answer
        except asyncio.CancelledError:
            # What comes now would be taken for the answer to something else.
            self.end()
            raise
        finally:
            self._answer = None

    def end(self, why: AutoReconnect | None = None) -> None:
        self._transport.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(why or AutoReconnect("the connection was closed"))
        if self.ended.done():
            return
        if why is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(why)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if len(received) < _HEADER.size:
            return
        length, _, request, kind = _HEADER.unpack_from(received)
        if kind != _OP_MSG or not _BEGINS < length <= MAX_BYTES or request != self._last_request:
            self.end(AutoReconnect("the server sent what was not asked for"))
        elif len(received) >= length:
            self._received = bytearray()
            if self._answer is None or self._answer.done() or len(received) > length:
                self.end(AutoReconnect("the server sent more than was asked for"))
            else:
                self._answer.set_result(bytes(received[_BEGINS:]))

    def connection_lost(self, exc: Exception | None) -> None:
        # One that is asked nothing may go for any reason, which is none to look for another primary.
        is_asked = self._answer is not None
        reason = type(exc).__name__ if exc else "closed"
        self.end(AutoReconnect(f"the connection was lost ({reason})") if is_asked else None)
        # It waits for it when it closes the connection.
        self._driver.connection_lost(exc)


def went_well(answer: bytes) -> bool:
    """Whether a write was done and confirmed, all of it; found without decoding the answer, which takes as long as the
    rest of a command. What it says beside that are times, and the ids of rows that were made.
    """
    return _IS_OK in answer and not any(problem in answer for problem in _PROBLEMS)


def failure(found: dict[str, Any]) -> OperationFailure | NotPrimaryError:
    """What the driver raises for something that a server reports: of a command, of a row, or of other members."""
    code, text = found.get("code"), str(found.get("errmsg", "refused"))
    if code in NOT_PRIMARY:
        return NotPrimaryError(text, found)
    kinds = {_DUPLICATE_KEY: DuplicateKeyError, _TOOK_TOO_LONG: ExecutionTimeout, _NOT_CONFIRMED_IN_TIME: WTimeoutError}
    return kinds.get(code or 0, OperationFailure)(text, code, found)
