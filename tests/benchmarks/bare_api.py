"""The yardsticks of the control plane: a Litestar handler that asks Redis and PostgreSQL one thing each, and answers,
and one that stores what it is sent together with what would tell others of it.

With the drivers that the control plane has, as everybody uses them: one question in a pipeline, prepared statements in
a connection of a pool. No authentication, no tenants, no limits, no audit, no log. `BENCH_REDIS_URL` and
`BENCH_POSTGRES_URL`, whose login may make a schema.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from litestar import Litestar, get, post
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from redis.asyncio import Redis

_QUERY = "SELECT %s::uuid AS id, now() AS created_at, 'bench' AS name, '{\"answer\": 42}'::jsonb AS config"
_ID = "00000000-0000-7000-8000-000000000000"
_TABLES = """
    CREATE SCHEMA IF NOT EXISTS bench;
    CREATE TABLE IF NOT EXISTS bench.credentials (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at timestamptz NOT NULL DEFAULT now(),
        name text NOT NULL UNIQUE, provider text NOT NULL, api_key text NOT NULL);
    CREATE TABLE IF NOT EXISTS bench.outbox (
        sequence bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, payload bytea NOT NULL, published_at timestamptz)
"""
_STORE = "INSERT INTO bench.credentials (name, provider, api_key) VALUES (%s, %s, %s) RETURNING id, created_at"
_TELL = "INSERT INTO bench.outbox (payload) VALUES (%s)"
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


class Credential(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    provider: str
    api_key: str


@post("/")
async def create(data: Credential) -> dict[str, Any]:
    async with _postgres.connection() as connection, connection.transaction():
        row = await (await connection.execute(_STORE, (data.name, data.provider, data.api_key))).fetchone()
        assert row is not None
        await connection.execute(_TELL, (msgspec.json.encode({"id": row[0], "name": data.name}),))
    return {"id": row[0], "created_at": row[1], "name": data.name, "provider": data.provider}


@asynccontextmanager
async def _running(_: Litestar) -> AsyncIterator[None]:
    await _postgres.open(wait=True)
    async with _postgres.connection() as connection:
        await connection.execute(_TABLES)
    yield
    await _postgres.close()
    await _redis.aclose()


app = Litestar([ready, read, create], lifespan=[_running], openapi_config=None, logging_config=None)
