"""A connection that many questions share: what is only read, each in a transaction and with a scope of its own.

PostgreSQL answers in the order in which it is asked, so that a question need not have a connection to itself: it is a
future and its part of what is sent, and whatever comes in at once is read at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from control_plane.database.connection import NO_LONGER_PREPARED, BoundedConnection, rows_of
from control_plane.database.scopes import Scope
from control_plane.database.statements import Question, Row
from control_plane.database.watches import NotAnswered

HELD_UP_SECONDS = 0.1
"""Whoever waits behind a question that takes longer goes another way."""

_Part = tuple[bytes, Sequence[Buffer | None], Sequence[Format] | None]


class AskElsewhere(psycopg.OperationalError):
    """There is no answer, for no reason that lies in the question."""


class _Asked:
    __slots__ = ("answer", "is_patient", "parts", "results", "since")

    def __init__(self, parts: Sequence[_Part], answer: "asyncio.Future[list[Row]]", since: float, *, is_patient: bool):
        self.parts = parts
        self.answer = answer
        self.since = since
        self.is_patient = is_patient
        self.results: list[PGresult] = []


class Line:
    """Takes a connection over. It ends with a question that takes longer than the connection gives it."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._transformer = Transformer(connection)
        self._known: dict[bytes, bytes] = {}
        self._last_name = 0
        self._asked: deque[_Asked] = deque()
        self._unsent: list[_Asked] = []
        self._is_writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self.is_lost = False
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    @property
    def has_ended(self) -> bool:
        """Whether it was lost, and the server has been told."""
        return self._ending is not None and self._ending.done()

    @property
    def load(self) -> int:
        """Questions that have no answer yet."""
        return len(self._asked) + len(self._unsent)

    @property
    def is_held_up(self) -> bool:
        return bool(self._asked) and self._loop.time() - self._asked[0].since > HELD_UP_SECONDS

    def ask(self, scope: Scope, question: Question, *, is_patient: bool = False) -> "asyncio.Future[list[Row]]":
        """The rows of the answer, in a transaction that sees what `scope` does. The caller may stop waiting for it at
        any time; one who is patient also waits for as long as others before it take.

        Raises psycopg.DataError, AskElsewhere, and the future AskElsewhere and psycopg.Error.
        """
        if self.is_lost:
            raise AskElsewhere("the connection was lost")
        parts = [(part.sql, *part.dumped(self._transformer)) for part in (scope.question(), question)]
        asked = _Asked(parts, self._loop.create_future(), self._loop.time(), is_patient=is_patient)
        # What is asked in the same round of the loop is answered in one, more often than not.
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(asked)
        return asked.answer

    async def close(self) -> None:
        self._lose("the connection was closed")
        if self._ending is not None:
            await self._ending

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not unsent:
            return
        self._asked.extend(unsent)
        if self._timer is None:
            self._timer = self._loop.call_later(HELD_UP_SECONDS, self._look)
        try:
            for asked in unsent:
                names = [self._prepared(sql) for sql, _, _ in asked.parts]
                for name, (_, values, formats) in zip(names, asked.parts, strict=True):
                    self._pgconn.send_query_prepared(name, values, formats, result_format=Format.BINARY)
                # The end of its transaction, and of what fails with it.
                self._pgconn.pipeline_sync()
            self._write()
        except psycopg.Error as error:
            self._lose(str(error))

    def _prepared(self, sql: bytes) -> bytes:
        name = self._known.get(sql)
        if name is None:
            self._last_name += 1
            name = self._known[sql] = b"line_%d" % self._last_name
            self._pgconn.send_prepare(name, sql)
        return name

    def _write(self) -> None:
        """What the socket does not take at once it takes later."""
        has_more = bool(self._pgconn.flush())
        if has_more != self._is_writing:
            self._is_writing = has_more
            if has_more:
                self._loop.add_writer(self._socket, self._write_on)
            else:
                self._loop.remove_writer(self._socket)

    def _write_on(self) -> None:
        try:
            self._write()
        except psycopg.Error as error:
            self._lose(str(error))

    def _read(self) -> None:
        is_between = False
        try:
            self._pgconn.consume_input()
            while self._asked and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    # Once between the results of two parts.
                    if is_between:
                        raise psycopg.OperationalError("the server has no answer to what it was asked")
                elif result.status == ExecStatus.PIPELINE_SYNC:
                    self._answer(self._asked.popleft())
                else:
                    self._asked[0].results.append(result)
                is_between = result is None
        except psycopg.Error as error:
            self._lose(str(error))

    def _answer(self, asked: _Asked) -> None:
        if asked.answer.done():
            return
        failed = next((result for result in asked.results if result.status == ExecStatus.FATAL_ERROR), None)
        try:
            if failed is not None:
                raise psycopg.errors.error_from_result(failed, encoding=self._pgconn._encoding)
            asked.answer.set_result(rows_of(asked.results[-1], self._transformer))
        except NO_LONGER_PREPARED as error:
            self._known.clear()
            asked.answer.set_exception(AskElsewhere(str(error)))
        except Exception as error:
            asked.answer.set_exception(error)

    def _look(self) -> None:
        """One timer for all that is asked: nobody has waited for longer than the first."""
        self._timer = None
        # The loop may have been held up itself, and the answer be there.
        self._read()
        if not self._asked:
            return
        first = self._asked[0]
        waited = self._loop.time() - first.since
        if waited >= self._connection.answer_seconds:
            if not first.answer.done():
                first.answer.set_exception(NotAnswered("the server does not answer in time"))
            self._lose("a question before this one was not answered in time")
            return
        if waited >= HELD_UP_SECONDS:
            for asked in self._asked:
                if asked is not first and not asked.is_patient:
                    _fail(asked, "a question before this one takes long")
        self._timer = self._loop.call_later(HELD_UP_SECONDS, self._look)

    def _lose(self, reason: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        for asked in (*self._asked, *self._unsent):
            _fail(asked, reason)
        self._asked.clear()
        self._unsent.clear()
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        with suppress(psycopg.Error, OSError):
            # A statement that goes on would hold on to what it has locked.
            if self._pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._connection.give_up()
            await self._connection.close()


def _fail(asked: _Asked, reason: str) -> None:
    if not asked.answer.done():
        asked.answer.set_exception(AskElsewhere(reason))
