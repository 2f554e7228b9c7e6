"""Connections that never wait for ever."""

from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import wait_async

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""The longest that a statement may take. None of ours comes near it: a server that needs longer, or a lock that is held
for longer, is as good as away, and the caller is told to come back."""

CANCEL_SECONDS = 1.0
_CHECK_SECONDS = 0.1


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """Gives up a statement after ANSWER_SECONDS with an OperationalError.

    A server that hangs keeps its connections open, so that nothing else would end the waiting.
    """

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
