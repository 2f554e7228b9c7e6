"""The stream that workers tell of what runs used: emptied from its head into what is counted."""

import asyncio
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from control_plane.database.engine import Database
from control_plane.usage.counting import count, is_our_turn
from shared.clock import Clock
from shared.logging import get_logger
from shared.usage import DEAD_STREAM, FIELD, STREAM, RunFinished, decode_run

BATCH = 500
WAIT_SECONDS = 1.0
"""How long a look at an empty stream lasts, and how soon another process takes over from one that counts no more."""

GATHER_SECONDS = 0.2
"""Between two batches, so that on a busy platform a transaction counts many runs."""

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0
MAX_DEAD = 1_000

log = get_logger(__name__)

Entry = tuple[bytes, dict[bytes, bytes]]


class UsageCounter:
    """Runs until cancelled, in every control plane: whichever gets the lock counts. What it cannot reach it waits for;
    the stream keeps what workers tell."""

    def __init__(self, redis: Redis, database: Database, clock: Clock, *, kept_days: int) -> None:
        self._redis = redis
        self._database = database
        self._clock = clock
        self._kept_days = kept_days

    async def run(self) -> None:
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            try:
                await self.count_some()
            except (RedisError, SQLAlchemyError, OSError) as error:
                log.warning("usage_not_counted", reason=type(error).__name__, retry_seconds=retry_seconds)
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, LAST_RETRY_SECONDS)
            else:
                retry_seconds = FIRST_RETRY_SECONDS
                await asyncio.sleep(GATHER_SECONDS)

    async def count_some(self, wait_seconds: float = WAIT_SECONDS) -> int:
        """Count what is at the head of the stream; how many entries that was. Raises RedisError, SQLAlchemyError."""
        entries = await self._head(wait_seconds)
        if not entries:
            return 0
        async with self._database() as session:
            if not await is_our_turn(session):
                await asyncio.sleep(wait_seconds)
                return 0
            runs, unreadable = _read(entries)
            await count(session, runs, self._clock, kept_days=self._kept_days)
            await session.commit()
        # From here on they are counted: gone now, or counted as nothing when they come again.
        async with self._redis.pipeline(transaction=True) as pipe:
            for entry_id, fields in unreadable:
                log.error("usage_unreadable", entry_id=entry_id.decode())
                pipe.xadd(DEAD_STREAM, cast("dict[Any, Any]", fields), maxlen=MAX_DEAD)
            pipe.xdel(STREAM, *(entry_id for entry_id, _ in entries))
            await pipe.execute()
        return len(entries)

    async def _head(self, wait_seconds: float) -> list[Entry]:
        block_ms = max(1, round(wait_seconds * 1000))
        found = cast("list[Any]", await self._redis.xread({STREAM: "0"}, count=BATCH, block=block_ms))
        return cast("list[Entry]", found[0][1]) if found else []


def _read(entries: list[Entry]) -> tuple[list[RunFinished], list[Entry]]:
    runs, unreadable = [], []
    for entry in entries:
        try:
            runs.append(decode_run(entry[1][FIELD.encode()]))
        except (KeyError, msgspec.MsgspecError):
            unreadable.append(entry)
    return runs, unreadable
