"""Connections for what is read in one query, without a session or a transaction of its own around it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_loads

from control_plane.database.connection import BoundedConnection
from control_plane.database.line import AskElsewhere, Line
from control_plane.database.scopes import scope_of
from control_plane.database.statements import Question, Row
from shared.errors import StoreUnavailable

T = TypeVar("T")

LINES = 6
"""Connections that questions share. One does; the others are for when a question takes long on it."""

CONNECTIONS = 10
"""Those that belong to one who asks."""

CONNECT_SECONDS = 3
WAIT_SECONDS = 5.0
"""The longest that a reader waits for a connection."""


class Readers:
    """Nothing connects before it is used."""

    def __init__(self, postgres_url: str, *, connections: int = CONNECTIONS) -> None:
        self._conninfo = make_conninfo(
            postgres_url, connect_timeout=CONNECT_SECONDS, application_name="cadence-control-plane-reader"
        )
        self._places = asyncio.Semaphore(connections)
        self._idle: list[BoundedConnection] = []
        self._lines: list[Line] = []
        self._connecting: asyncio.Task[Line] | None = None

    async def read(self, org_id: UUID | None, question: Question) -> list[Row]:
        """The rows of one answer, out of those that an organization, or for None the platform, is shown. It shares its
        connection with what others ask.

        Raises psycopg.Error.
        """
        try:
            return await (await self._line()).ask(scope_of(org_id), question)
        except AskElsewhere:
            # Nothing is changed by asking again. This time it waits for as long as it takes.
            return await (await self._line()).ask(scope_of(org_id), question, is_patient=True)

    async def read_at_once(self, org_id: UUID | None, *questions: Question) -> list[list[Row]]:
        """The same for each of several questions, of one moment, on a connection of their own.

        Raises StoreUnavailable, psycopg.Error.
        """
        rows: list[list[Row]] = await self._asked(
            lambda connection: connection.look_at_once(scope_of(org_id), *questions)
        )
        return rows

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        while self._lines:
            await self._lines.pop().close()
        while self._idle:
            await self._idle.pop().close()

    async def _line(self) -> Line:
        """One on which nobody takes long; with as many as may be, that on which the fewest wait."""
        for line in self._lines:
            if not (line.is_lost or line.is_held_up):
                return line
        self._lines = [line for line in self._lines if not line.has_ended]
        living = [line for line in self._lines if not line.is_lost]
        if living and len(self._lines) >= LINES:
            return min(living, key=lambda line: line.load)
        # Whoever comes meanwhile takes the same.
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open_line())
            self._connecting.add_done_callback(self._forget_attempt)
        # One who leaves must not take it from the others.
        return await asyncio.shield(self._connecting)

    async def _open_line(self) -> Line:
        line = Line(await self._connect())
        self._lines.append(line)
        return line

    def _forget_attempt(self, attempt: "asyncio.Task[Line]") -> None:
        self._connecting = None
        if not attempt.cancelled():
            # Those who waited for it were told; there may be nobody left.
            attempt.exception()

    async def _asked(self, ask: Callable[[BoundedConnection], Awaitable[T]]) -> T:
        if self._places.locked():
            await self._wait_for_place()
        else:
            await self._places.acquire()
        try:
            connection = await self._connection()
            try:
                return await ask(connection)
            except psycopg.OperationalError:
                if not connection.closed:
                    raise
                # It left in this very moment. Nothing is changed by asking again.
                connection = await self._connect()
                return await ask(connection)
            finally:
                self._take_back(connection)
        finally:
            self._places.release()

    async def _wait_for_place(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable("PostgreSQL does not keep up with what is asked") from None

    async def _connection(self) -> BoundedConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh:
                return connection
            await connection.close()
        return await self._connect()

    async def _connect(self) -> BoundedConnection:
        connection = await BoundedConnection.connect(self._conninfo, autocommit=True)
        set_json_loads(_json, connection)
        return connection

    def _take_back(self, connection: BoundedConnection) -> None:
        if not connection.closed:
            self._idle.append(connection)


def _json(text: str | bytes) -> Any:
    return msgspec.json.decode(text)
