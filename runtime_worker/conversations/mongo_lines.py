"""The way to MongoDB for what every run asks of it.

The driver takes a command through its pool, sessions, retries and timeouts, which is twice as much work as the command
itself. So it finds the primary, connects, encrypts and authenticates, as for any other, and then lends us the
connection for as long as that lasts. What is asked over it goes straight to the socket. How it ended is told to the
driver, which then looks for another primary when it has to.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import bson
from bson import Binary, Int64
from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    DocumentTooLarge,
    NetworkTimeout,
    NotPrimaryError,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.monitoring import ConnectionClosedReason

from runtime_worker.conversations.mongo_line import MongoLine, failure, message_of, went_well

ANSWER_SECONDS = 2.5
"""The longest that a command may take, all told."""

LINES = 32
"""As many commands go at once; more wait. The driver has 100 connections, and other questions need some."""

MAX_ROW_BYTES = 16 * 1024 * 1024
"""What MongoDB takes in one document."""

_MAY_BE_REPEATED = "RetryableWriteError"

Row = dict[str, Any]


class MongoLines:
    """The client is the caller's, who closes it after this."""

    def __init__(self, client: AsyncMongoClient[Row]) -> None:
        self._client = client
        self._codec = client.codec_options
        self._places = asyncio.Semaphore(LINES)
        self._idle: list[MongoLine] = []
        self._numbers: list[_Numbers] = []
        self._keepers: set[asyncio.Task[None]] = set()

    def encoded(self, row: Row) -> bytes:
        """Raises InvalidDocument or OverflowError for what MongoDB has no place for, DocumentTooLarge."""
        encoded = bson.encode(row, codec_options=self._codec)
        if len(encoded) > MAX_ROW_BYTES:
            raise DocumentTooLarge(f"{len(encoded)} bytes are more than MongoDB takes in one document")
        return encoded

    async def read(self, database: str, command: Row) -> Row:
        """The answer to a command that changes nothing. Raises PyMongoError."""
        return await self._answered({**command, "$db": database}, None)

    async def write(self, database: str, command: Row, rows: tuple[str, Sequence[bytes]]) -> Row:
        """Send a command that writes rows, under the name that it has for them. The answer when something is wrong with
        some of them, empty when nothing is.

        What is sent again because a connection was lost is not done twice. Raises PyMongoError; it may be done then.
        """
        numbers = self._numbers.pop() if self._numbers else _Numbers()
        answer = await self._answered({**command, "$db": database, **numbers.next()}, rows)
        self._numbers.append(numbers)
        return answer

    async def close(self) -> None:
        """Also what is only being opened, which nobody may wait for any more."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _answered(self, command: Row, rows: tuple[str, Sequence[bytes]] | None) -> Row:
        message = message_of(self.encoded({**command, "maxTimeMS": int(ANSWER_SECONDS * 1000)}), rows)
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._places:
                try:
                    return await self._asked(message, is_write=rows is not None)
                except ServerSelectionTimeoutError:
                    raise
                except AutoReconnect:
                    # As the driver does: the next primary may be there already.
                    return await self._asked(message, is_write=rows is not None)
        except TimeoutError:
            raise NetworkTimeout("MongoDB did not answer in time") from None

    async def _asked(self, message: bytes, *, is_write: bool) -> Row:
        line = await self._line()
        try:
            document = await line.ask(message)
            if is_write and went_well(document):
                answer: Row = {}
                refusal = None
            else:
                answer = self._decoded(document)
                refusal = None if answer.get("ok") == 1 else failure(answer)
            if isinstance(refusal, NotPrimaryError) or _MAY_BE_REPEATED in answer.get("errorLabels", ()):
                raise NotPrimaryError(str(refusal or "the primary has changed"), answer)
        except AutoReconnect as error:
            # What has become of one has become of all.
            for lost in (line, *self._idle):
                lost.end(error)
            self._idle.clear()
            raise
        if not line.ended.done():
            self._idle.append(line)
        if refusal is not None:
            raise refusal
        return answer

    def _decoded(self, document: bytes) -> Row:
        try:
            decoded: Row = bson.decode(document, codec_options=self._codec)
        except BSONError as error:
            raise AutoReconnect(f"the server sent what is no document ({error})") from None
        return decoded

    async def _line(self) -> MongoLine:
        while self._idle:
            line = self._idle.pop()
            if not line.ended.done():
                return line
        opened: asyncio.Future[MongoLine] = asyncio.get_running_loop().create_future()
        keeper = asyncio.create_task(self._keep(opened))
        self._keepers.add(keeper)
        keeper.add_done_callback(self._keepers.discard)
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            # It is there for the next one then.
            opened.add_done_callback(self._take)
            raise

    def _take(self, opened: "asyncio.Future[MongoLine]") -> None:
        if opened.exception() is None:
            self._idle.append(opened.result())

    async def _keep(self, opened: "asyncio.Future[MongoLine]") -> None:
        """Holds a connection of the driver's until it ends, however it does."""
        try:
            async with await self._client._conn_for_writes(None, "chat") as connection:
                line = MongoLine(connection)
                opened.set_result(line)
                try:
                    await line.ended
                finally:
                    await connection.close_conn(ConnectionClosedReason.ERROR)
        except PyMongoError as error:
            # How one ends that was open, those have heard who had asked it something.
            if not opened.done():
                opened.set_exception(error)


class _Numbers:
    """By which the server knows a write that is sent again: a session of its own, and numbers that rise in it."""

    def __init__(self) -> None:
        self._session = {"id": Binary.from_uuid(uuid4())}
        self._last = 0

    def next(self) -> Row:
        self._last += 1
        return {"lsid": self._session, "txnNumber": Int64(self._last)}
