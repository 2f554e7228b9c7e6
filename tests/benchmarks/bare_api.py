"""The yardstick of the control plane: a Litestar handler that asks Redis and PostgreSQL one thing each, and answers.

With the drivers that the control plane has, as everybody uses them: one question in a pipeline, one prepared query in a
connection of a pool. No authentication, no tenants, no limits, no log. `BENCH_REDIS_URL` and `BENCH_POSTGRES_URL`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, get
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

_QUERY = "SELECT %s::uuid AS id, now() AS created_at, 'bench' AS name, '{\"answer\": 42}'::jsonb AS config"
_ID = "00000000-0000-7000-8000-000000000000"
_redis = Redis.from_url(os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1"))
_postgres: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
    os.environ.get("BENCH_POSTGRES_URL", ""), min_size=16, kwargs={"autocommit": True}, open=False
)


@get("/health/ready")
async def ready() -> None: ...


@get("/")
async def read() -> dict[str, Any]:
    async with _redis.pipeline(transaction=False) as pipe:
        pipe.mget(["bench:a", "bench:b", "bench:c"])
        await pipe.execute()
    async with _postgres.connection() as connection:
        row = await (await connection.execute(_QUERY, (_ID,))).fetchone()
    assert row is not None
    return {"id": row[0], "created_at": row[1], "name": row[2], "config": row[3]}


@asynccontextmanager
async def _running(_: Litestar) -> AsyncIterator[None]:
    await _postgres.open(wait=True)
    yield
    await _postgres.close()
    await _redis.aclose()


app = Litestar([ready, read], lifespan=[_running], openapi_config=None, logging_config=None)
