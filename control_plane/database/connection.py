"""Connections that never wait for ever, and that see only what their scope lets them see."""

import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import psycopg
from psycopg import abc, generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait, wait_async

from control_plane.database.scopes import Scope
from control_plane.database.statements import BEGIN, BEGIN_VIEW, COMMIT, Question, Row
from control_plane.database.watches import Watch

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""The longest that a statement may take. None of ours comes near it: a server that needs longer, or a lock that is held
for longer, is as good as away, and the caller is told to come back."""

CANCEL_SECONDS = 1.0
NO_LONGER_PREPARED = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.FeatureNotSupported)
"""What a statement is refused with that was prepared and is gone, or whose tables have changed since."""


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Gives up a statement after `answer_seconds` with an OperationalError: a server that hangs keeps its connections
    open, so that nothing else would end the waiting.

    `scope` counts from the next transaction on; None leaves the session as it is.
    """

    answer_seconds = ANSWER_SECONDS
    scope: Scope | None = None
    _session_scope: Scope | None = None
    _known: dict[bytes, bytes]
    _last_name = 0
    _watch: Watch | None = None
    _poll: "select.poll | None" = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known = {}
        # One for all that is asked: it remembers how each kind of value is written and read.
        self._transformer: abc.Transformer | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, and no transaction goes on."""
        return self.pgconn.transaction_status == TransactionStatus.IDLE

    @property
    def is_fresh(self) -> bool:
        """Whether it can be lent again, as far as can be told without asking: a server that was asked nothing says
        something only when it leaves.
        """
        if self.closed or not self.is_idle:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, select.POLLIN)
        return not self._poll.poll(0)

    async def ask(self, question: Question) -> list[Row]:
        """The rows of one answer, in a transaction of its own that sees what the session does. One round trip."""
        async with self.lock:
            return (await self.wait(self._ask((question,))))[0]

    async def look_at_once(self, scope: Scope, *questions: Question) -> list[list[Row]]:
        """The rows of each answer, in one transaction that sees what `scope` does, and the database as it was at one
        moment. One round trip.
        """
        async with self.lock:
            return (await self.wait(self._ask((BEGIN_VIEW, scope.question(), *questions, COMMIT))))[2:-1]

    async def run(self, *questions: Question) -> list[list[Row]]:
        """The rows of each answer, in the transaction that is going on or else begins now. One round trip, whatever
        their number; what follows one that fails is not done.
        """
        async with self.lock:
            if not self.is_idle:
                return await self.wait(self._ask(questions))
            opening = (BEGIN,) if self.scope is None else (BEGIN, self.scope.question())
            return (await self.wait(self._ask((*opening, *questions))))[len(opening) :]

    def _ask(self, questions: Sequence[Question]) -> PQGen[list[list[Row]]]:
        self._check_connection_ok()
        pgconn = self.pgconn
        if self._transformer is None:
            self._transformer = Transformer(self)
        transformer = self._transformer
        dumped = [question.dumped(transformer) for question in questions]
        new: dict[bytes, bytes] = {}
        is_prepared: list[bool] = []
        pgconn.enter_pipeline_mode()
        for question, (values, formats) in zip(questions, dumped, strict=True):
            name = self._known.get(question.sql) or new.get(question.sql)
            if name is None:
                self._last_name += 1
                name = new[question.sql] = b"ours_%d" % self._last_name
                pgconn.send_prepare(name, question.sql)
                is_prepared.append(True)
            pgconn.send_query_prepared(name, values, formats, result_format=Format.BINARY)
            is_prepared.append(False)
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        results: list[PGresult] = []
        while not results or results[-1].status != ExecStatus.PIPELINE_SYNC:
            results.extend((yield from generators.fetch_many(pgconn)))
        pgconn.exit_pipeline_mode()
        if failed := next((result for result in results if result.status == ExecStatus.FATAL_ERROR), None):
            error = psycopg.errors.error_from_result(failed, encoding=pgconn._encoding)
            if isinstance(error, NO_LONGER_PREPARED):
                self._known.clear()
            raise error
        self._known.update(new)
        # What prepared a statement has no rows to give.
        answers = (result for result, prepares in zip(results, is_prepared, strict=False) if not prepares)
        found = [rows_of(result, transformer) for result in answers]
        transformer.set_pgresult(None)
        return found

    def _deallocate(self, name: bytes | None) -> PQGen[None]:
        """The driver forgets all that it prepared after some rollbacks, and makes the server forget ours with it."""
        if name is None:
            self._known.clear()
        yield from super()._deallocate(name)

    def _start_query(self) -> PQGen[None]:
        """Take the scope together with BEGIN, in one round trip. Without transactions it costs one of its own, whenever
        the scope is another than last time on this connection.
        """
        if self.scope is None:
            yield from super()._start_query()
        elif self._autocommit:
            if self._session_scope != self.scope:
                self._session_scope = None
                yield from self._run(self.scope.command(is_local=False))
                self._session_scope = self.scope
        elif self.is_idle:
            yield from self._run(self._get_tx_start_command() + b"; " + self.scope.command(is_local=True))

    def _run(self, statements: bytes) -> PQGen[None]:
        self._check_connection_ok()
        self.pgconn.send_query(statements)
        for result in (yield from generators.execute(self.pgconn)):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.pgconn._encoding)

    async def wait(self, gen: PQGen[T], interval: float = ANSWER_SECONDS, timeout: float | None = None) -> T:
        """`timeout` is for what is no answer: it may be long in coming, and is waited for as the driver does it."""
        try:
            if timeout is None:
                return await self._answered(gen)
            self._stop_watching()
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except BaseException:
            # Also when the caller has left: what came back on this connection would be taken for another answer.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self.give_up()
            raise
        finally:
            if self.pgconn.status != ConnStatus.OK:
                self._stop_watching()

    async def _answered(self, gen: PQGen[T]) -> T:
        try:
            wanted = next(gen)
            if self._watch is None:
                self._watch = Watch(self.pgconn.socket)
            until = self._watch.in_seconds(self.answer_seconds)
            while wanted == Wait.R:
                await self._watch.readable(until)
                wanted = gen.send(Ready.R)
        except StopIteration as ended:
            return cast("T", ended.value)
        # More than the socket takes at once.
        self._stop_watching()
        return await wait_async(_resumed(gen, wanted), self.pgconn.socket, ANSWER_SECONDS, self.answer_seconds)

    async def close(self) -> None:
        self._stop_watching()
        await super().close()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    async def give_up(self) -> None:
        """End the statement in the server, should it still listen, so that it does not go on holding locks."""
        try:
            with suppress(psycopg.Error, OSError):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
        finally:
            self._stop_watching()
            self.pgconn.finish()


def rows_of(result: PGresult, transformer: abc.Transformer) -> list[Row]:
    """What a statement answered; nothing when it is one that has no rows to give."""
    if result.status != ExecStatus.TUPLES_OK:
        return []
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def _resumed(gen: PQGen[T], wanted: Wait) -> PQGen[T]:
    """The rest of what was begun and wants something."""
    try:
        while True:
            ready = yield wanted
            wanted = gen.send(ready)
    except StopIteration as ended:
        return cast("T", ended.value)
