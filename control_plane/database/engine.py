"""The connection pool."""

from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Dialect, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from control_plane.database.connection import BoundedConnection
from control_plane.database.kept import IDLE_SECONDS, KeptConnections
from control_plane.database.readers import Readers
from control_plane.database.scopes import NO_ORGANIZATION, SCOPE, scope_of
from control_plane.database.sessions import LazySession

POOL_SIZE = 16
CONNECT_SECONDS = 3
_RETURNED = "returned"


def create_engine(postgres_url: str) -> AsyncEngine:
    """An engine on psycopg 3 for a plain `postgresql://` URL. Connections are looked at before use, so that a restarted
    server costs no failed request, and give up on a server that hangs. They see no organization's rows unless the
    execution option SCOPE says whose.
    """
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        pool_timeout=5,
        # `_reset` does it, for those that need it.
        pool_reset_on_return=None,
        # Errors are logged, and a statement's values hold password hashes, sealed keys and what people wrote.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": BoundedConnection.connect,
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "cadence-control-plane",
        },
    )
    event.listen(engine.sync_engine, "begin", _take_scope)
    event.listen(engine.sync_engine, "reset", _reset)
    event.listen(engine.sync_engine, "checkin", _forget_scope)
    event.listen(engine.sync_engine, "checkout", partial(_test, engine.dialect))
    return engine


def scoped(engine: AsyncEngine, org_id: UUID | None) -> AsyncEngine:
    """The same connections, for one organization's rows or, for None, for those of all."""
    return engine.execution_options(**{SCOPE: scope_of(org_id)})


class Database:
    """Makes sessions, each for one organization's rows or, without one, for the platform's work on those of all."""

    def __init__(
        self, engine: AsyncEngine, kept: KeptConnections | None = None, readers: Readers | None = None
    ) -> None:
        """`kept` are the engine's, and closed before it by whoever gives them; `readers` are for what a session only
        looks at.
        """
        self._engine = engine
        self._kept = kept
        self._readers = readers

    def __call__(self, org_id: UUID | None = None) -> AsyncSession:
        return LazySession(self._engine, org_id, self._kept, self._readers)


def _take_scope(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, BoundedConnection)  # noqa: S101 - the engine makes no others
    driver.scope = connection.get_execution_options().get(SCOPE, NO_ORGANIZATION)


def _reset(dbapi_connection: Any, _: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Take back what was begun and not committed. To ask the server for it costs a round trip, or the looking whether
    it would: most connections come back without."""
    if state.asyncio_safe and not dbapi_connection.driver_connection.is_idle:
        dbapi_connection.rollback()


def _forget_scope(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    """The pool may test a connection before it lends it again, which is no reason to change its role."""
    record.info[_RETURNED] = monotonic()
    if dbapi_connection is not None:
        dbapi_connection.driver_connection.scope = None


def _test(dialect: Dialect, dbapi_connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """A server that left has said so. Only one that has not been heard of for a while is asked: its machine, or what is
    between us, may have gone without a word.
    """
    returned = record.info.get(_RETURNED)
    if returned is None:
        return
    try:
        is_there = dbapi_connection.driver_connection.is_fresh and (
            monotonic() - returned < IDLE_SECONDS or dialect.do_ping(dbapi_connection)
        )
    except psycopg.Error:
        is_there = False
    if not is_there:
        # With all that are as old, so that each of them does not cost somebody the finding out.
        raise InvalidatePoolError
