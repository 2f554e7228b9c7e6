"""Connections that never wait for ever, and that see only what their scope lets them see."""

from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.waiting import wait_async

from control_plane.database.scopes import Scope

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""The longest that a statement may take. None of ours comes near it: a server that needs longer, or a lock that is held
for longer, is as good as away, and the caller is told to come back."""

CANCEL_SECONDS = 1.0
_CHECK_SECONDS = 0.1


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Gives up a statement after ANSWER_SECONDS with an OperationalError: a server that hangs keeps its connections
    open, so that nothing else would end the waiting.

    `scope` counts from the next transaction on; None leaves the session as it is.
    """

    scope: Scope | None = None
    _session_scope: Scope | None = None

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
        elif self.pgconn.transaction_status == TransactionStatus.IDLE:
            yield from self._run(self._get_tx_start_command() + b"; " + self.scope.command(is_local=True))

    def _run(self, statements: bytes) -> PQGen[None]:
        self._check_connection_ok()
        self.pgconn.send_query(statements)
        for result in (yield from generators.execute(self.pgconn)):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.pgconn._encoding)

    async def wait(self, gen: PQGen[T], interval: float = _CHECK_SECONDS, timeout: float | None = None) -> T:
        seconds = ANSWER_SECONDS if timeout is None else timeout
        try:
            return await wait_async(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except BaseException:
            # Also when the caller has left: what came back on this connection would be taken for another answer.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._give_up()
            raise

    async def _give_up(self) -> None:
        """End the statement in the server, should it still listen, so that it does not go on holding locks."""
        try:
            with suppress(psycopg.Error, OSError):
                await self.cancel_safe(timeout=CANCEL_SECONDS)
        finally:
            self.pgconn.finish()
