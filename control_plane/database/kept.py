"""Connections that sessions without an ORM hand to each other. To take one from the engine's pool and to give it back
costs as much as a statement.
"""

from time import monotonic
from typing import cast

import psycopg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from control_plane.database.connection import BoundedConnection
from control_plane.database.statements import Question

IDLE_SECONDS = 10.0
"""How long a connection may have been idle and still be lent unasked."""

_PING = Question(b"SELECT 1")


class KeptConnections:
    """For the pool they are lent, so that all are counted there. Where more are lent than it keeps, none is kept here:
    somebody may be waiting for it.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[tuple[PoolProxiedConnection, float]] = []

    async def take(self) -> PoolProxiedConnection:
        """One of them, or else one of the pool. Raises what the pool raises."""
        while self._idle:
            lent, since = self._idle.pop()
            if await _is_there(driver_of(lent), since):
                return lent
            await greenlet_spawn(lent.invalidate)
        return await self._engine.raw_connection()

    def keep(self, lent: PoolProxiedConnection) -> bool:
        """Take it back for the next one; whether it was."""
        driver, pool = driver_of(lent), self._engine.pool
        if not driver.is_idle or not isinstance(pool, QueuePool) or pool.checkedout() > pool.size():
            return False
        driver.scope = None
        self._idle.append((lent, monotonic()))
        return True

    async def close(self) -> None:
        while self._idle:
            lent, _ = self._idle.pop()
            await greenlet_spawn(lent.invalidate)


def driver_of(lent: PoolProxiedConnection) -> BoundedConnection:
    return cast("BoundedConnection", lent.driver_connection)


async def _is_there(driver: BoundedConnection, since: float) -> bool:
    """A server that left has said so. Only one that has not been heard of for a while is asked: its machine, or what is
    between us, may have gone without a word.
    """
    if not driver.is_fresh:
        return False
    if monotonic() - since < IDLE_SECONDS:
        return True
    try:
        await driver.ask(_PING)
    except psycopg.Error:
        return False
    return True
