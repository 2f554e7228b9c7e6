"""Waiting for what a server answers, on a socket that is watched for as long as its connection lives.

The driver tells the loop of a socket for each answer and takes it back after it, with a timer of its own for each: on
the way of a request that costs as much as to read what was answered.
"""

import asyncio

from psycopg.errors import OperationalError


class NotAnswered(OperationalError):
    """The server took longer than it may."""


class Watch:
    """Of one socket, in the loop that it is made in. To be `stop`ped before the socket is closed, or right after."""

    def __init__(self, socket: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket
        self._waiting: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_on = False

    def in_seconds(self, seconds: float) -> float:
        return self._loop.time() + seconds

    async def readable(self, until: float) -> None:
        """Wait until something has come. Raises NotAnswered at the moment `until` of the loop's clock."""
        if not self._is_on:
            self._loop.add_reader(self._socket, self._come)
            self._is_on = True
        self._until = until
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._look)
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_on:
            self._loop.remove_reader(self._socket)
            self._is_on = False

    def _come(self) -> None:
        if self._waiting is None:
            # Nobody asked: it has left, or tells of something. The loop would go on saying so.
            self.stop()
        elif not self._waiting.done():
            self._waiting.set_result(None)

    def _look(self) -> None:
        """One timer for all answers that come in time."""
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._waiting.set_exception(NotAnswered("the server does not answer in time"))
