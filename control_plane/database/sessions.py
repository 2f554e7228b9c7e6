"""Sessions whose ORM begins when somebody asks for it.

Most changes are a few statements that go past it (`direct`), and for those a session of SQLAlchemy, what it keeps of
its transaction and the connection that it wraps cost more than all that the statements do.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection, PoolProxiedConnection, inspect
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from control_plane.database.base import Base
from control_plane.database.changes import ObservedSession
from control_plane.database.connection import BoundedConnection
from control_plane.database.kept import KeptConnections, driver_of
from control_plane.database.readers import Readers
from control_plane.database.scopes import SCOPE, scope_of
from control_plane.database.statements import COMMIT, Question, Row

A = TypeVar("A")
T = TypeVar("T", bound=Base)

_ORM = "sync_session"


class Soon:
    """A question that is asked together with the next one of its session; awaited, the rows of the answer to it."""

    def __init__(self, session: "LazySession", question: Question) -> None:
        self._session = session
        self.question = question
        self.rows: list[Row] | None = None

    def __await__(self) -> Generator[Any, Any, list[Row]]:
        if self.rows is None:
            yield from self._session.run().__await__()
        assert self.rows is not None  # noqa: S101 - whoever rolls back has nothing to wait for
        return self.rows


class LazySession(AsyncSession):
    """A session for one organization's rows, or for None the platform's. Whoever uses the ORM in the middle of a
    transaction gets it on the same connection, with the rows that were `keep`t before.
    """

    def __init__(
        self, engine: AsyncEngine, org_id: UUID | None, kept: KeptConnections | None, readers: Readers | None
    ) -> None:
        self._engine = engine
        self._kept = kept
        self._readers = readers
        self._org_id = org_id
        self._early_info: dict[Any, Any] = {}
        self._early_rows: dict[tuple[type[Base], Any], Base] = {}
        self._lent: PoolProxiedConnection | None = None
        self._driver: BoundedConnection | None = None
        self.waiting: list[Soon] = []
        self.is_over = False
        self._autoflush = True

    @property
    def has_orm(self) -> bool:
        return _ORM in self.__dict__

    @property
    def info(self) -> dict[Any, Any]:
        return self.sync_session.info if self.has_orm else self._early_info

    @property
    def needs_orm(self) -> bool:
        """Whether the ORM has been asked for, or has something to store."""
        return self.has_orm or not self.is_flushed

    @property
    def is_flushed(self) -> bool:
        """Whether there is nothing that the ORM would have to store."""
        if self.has_orm:
            return not (self.new or self.dirty or self.deleted)
        return not any(inspect(row).modified for row in self._early_rows.values())

    @property
    def no_autoflush(self) -> AbstractContextManager[Any]:
        return super().no_autoflush if self.has_orm else self._no_autoflush()

    @contextmanager
    def _no_autoflush(self) -> Iterator[Self]:
        """The same for an ORM that begins meanwhile."""
        before, self._autoflush = self._autoflush, False
        try:
            yield self
        finally:
            self._autoflush = before
            if self.has_orm:
                self.sync_session.autoflush = before

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in (_ORM, "_proxied"):
                raise AttributeError(name)
            self._begin_orm()
            return self.__dict__[name]

    def keep(self, row: T) -> T:
        """A row of the database as this session's own, which has no other of it."""
        if self.has_orm:
            self.add(row)
        else:
            self._early_rows[type(row), inspect(row).identity] = row
        return row

    def kept(self, table: type[T], identity: tuple[Any, ...]) -> T | None:
        """The row that this session has already."""
        if self.has_orm:
            key = inspect(table).identity_key_from_primary_key(identity)
            return self.sync_session.identity_map.get(key)
        return cast("T | None", self._early_rows.get((table, identity)))

    async def run(self, *questions: Question) -> list[list[Row]]:
        """The rows of each answer, together with what waits. Raises DBAPIError."""
        waiting, self.waiting = self.waiting, []
        answers: list[list[Row]] = await self._asked(
            lambda driver: driver.run(*[soon.question for soon in waiting], *questions)
        )
        for soon, rows in zip(waiting, answers, strict=False):
            soon.rows = rows
        return answers[len(waiting) :]

    async def look(self, question: Question) -> list[Row]:
        """The rows of one answer; where no transaction goes on, in one of its own that is over with it."""
        if self._readers is None or self.has_orm or self.waiting or self._is_in_transaction:
            return (await self.run(question))[0]
        self._require_going_on()
        try:
            return await self._readers.read(self._org_id, question)
        except psycopg.Error as error:
            raise _as_sqlalchemy(error, is_lost=False) from error

    async def _asked(self, ask: Callable[[BoundedConnection], Awaitable[A]]) -> A:
        self._require_going_on()
        driver = self._driver or await self._connected()
        try:
            return await ask(driver)
        except BaseException as error:
            # Also when the caller has left: it is closed then, and nobody may take it for one to roll back on.
            if driver.closed:
                await self._drop()
            if isinstance(error, psycopg.Error):
                raise _as_sqlalchemy(error, is_lost=driver.closed) from error
            raise

    async def run_and_end(self, *questions: Question) -> list[list[Row]]:
        """The same with the commit. Nothing comes after it: the session is over."""
        answers = await self.run(*questions, COMMIT)
        self.is_over = True
        await self._end()
        return answers

    async def commit(self) -> None:
        if self.needs_orm:
            if self.waiting:
                await self.run()
            await super().commit()
        if self.waiting or self._is_in_transaction:
            await self.run(COMMIT)
        await self._end()

    async def rollback(self) -> None:
        # What they say is not so any more.
        self._early_rows.clear()
        if self.has_orm:
            await super().rollback()
        await self._end()

    async def close(self) -> None:
        if self.has_orm:
            await super().close()
        await self._end()

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        if self.has_orm or self._is_in_transaction:
            # Shielded from whoever stops waiting.
            await super().__aexit__(type_, value, traceback)
        else:
            await self._end()

    @property
    def _is_in_transaction(self) -> bool:
        driver = self._driver if self._lent is not None else None
        return driver is not None and not driver.is_idle

    def _require_going_on(self) -> None:
        if self.is_over:
            raise InvalidRequestError("the transaction was committed with its last change, and this comes after it")

    def _begin_orm(self) -> None:
        self._require_going_on()
        view = self._view()
        bind: AsyncEngine | AsyncConnection = view
        if self._lent is not None:
            bind = AsyncConnection(view, Connection(view.sync_engine, self._lent))
        super().__init__(bind, expire_on_commit=False, sync_session_class=ObservedSession, info=self._early_info)
        self.sync_session.autoflush = self._autoflush
        for row in self._early_rows.values():
            self.add(row)
        self._early_rows.clear()

    def _view(self) -> AsyncEngine:
        return self._engine.execution_options(**{SCOPE: scope_of(self._org_id)})

    async def _connected(self) -> BoundedConnection:
        if self.has_orm:
            raw = await (await self.connection()).get_raw_connection()
        else:
            try:
                take = self._engine.raw_connection if self._kept is None else self._kept.take
                self._lent = raw = await take()
            except psycopg.Error as error:
                raise _as_sqlalchemy(error, is_lost=True) from error
        self._driver = driver = driver_of(raw)
        if self._lent is not None:
            driver.scope = scope_of(self._org_id)
        return driver

    async def _drop(self) -> None:
        """The connection is lost, and must not be lent again."""
        if self.has_orm:
            await (await self.connection()).invalidate()
        elif self._lent is not None:
            await greenlet_spawn(self._lent.invalidate)
        self._driver = None

    async def _end(self) -> None:
        """The next transaction may get another connection, and this one goes to somebody else."""
        driver, self._driver = self._driver, None
        lent, self._lent = self._lent, None
        self.waiting = []
        if lent is None:
            return
        if self.has_orm:
            self.bind = self._view()
        elif driver is not None and self._kept is not None and self._kept.keep(lent):
            return
        if driver is not None and driver.closed and lent.is_valid:
            await greenlet_spawn(lent.invalidate)
        pool = self._engine.pool
        has_room = isinstance(pool, QueuePool) and pool.checkedin() < pool.size()
        if has_room and driver is not None and driver.is_idle:
            lent.close()
        else:
            # The pool takes back what was begun and not committed, and closes what it has no room for.
            await greenlet_spawn(lent.close)


def _as_sqlalchemy(error: psycopg.Error, *, is_lost: bool) -> Exception:
    return DBAPIError.instance(
        None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=is_lost
    )  # fmt: skip
