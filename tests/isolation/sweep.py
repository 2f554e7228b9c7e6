"""Looking for something in everything that a store holds, whatever it is and wherever it is kept."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import nats
import psycopg
from nats.js.errors import NotFoundError
from psycopg import sql
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

Found = tuple[str, str]
"""Where, and what of the needles."""

MAX_FILE_BYTES = 64 * 1024 * 1024


async def found_in_postgres(owner_url: str, needles: Sequence[str]) -> list[Found]:
    """Tables with a row whose text holds a needle; bytes count as the text in them."""
    found: list[Found] = []
    async for table, text in everything_in_postgres(owner_url):
        found += [(table, needle) for needle in needles if needle in text]
    return sorted(set(found))


async def everything_in_postgres(owner_url: str) -> AsyncIterator[tuple[str, str]]:
    """Every row as text, with its table."""
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        for (table,) in await (await connection.execute(names)).fetchall():
            async for row in _rows(connection, table):
                yield table, "\n".join(_text(value) for value in row)


async def found_in_redis(redis: Redis, needles: Sequence[str]) -> list[Found]:
    """Keys whose name or value holds a needle."""
    found: list[Found] = []
    async for key, value in everything_in_redis(redis):
        text = f"{key}\n{value}"
        found += [(key, needle) for needle in needles if needle in text]
    return sorted(set(found))


async def everything_in_redis(redis: Redis) -> AsyncIterator[tuple[str, str]]:
    """Every key with its value as text."""
    client = cast("Any", redis)
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
    }
    async for key in redis.scan_iter(count=1000):
        kind = await client.type(key)
        value = await readers[kind](key) if kind in readers else ""
        yield _text(key), _text(value)


async def found_in_mongo(url: str, needles: Sequence[str], org_ids: Sequence[str]) -> list[Found]:
    """Databases of the organizations, and documents of any database that hold a needle."""
    found: list[Found] = []
    ours = {f"cadence_{UUID(org_id).hex}" for org_id in org_ids}
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        found += [(name, "database") for name in await client.list_database_names() if name in ours]
    async for collection, text in everything_in_mongo(url):
        found += [(collection, needle) for needle in needles if needle in text]
    return sorted(set(found))


async def everything_in_mongo(url: str) -> AsyncIterator[tuple[str, str]]:
    """Every document of every database of ours as text, with its database and collection."""
    async with AsyncMongoClient[dict[str, Any]](url, uuidRepresentation="standard") as client:
        for name in await client.list_database_names():
            if name.startswith("cadence_"):
                for collection in await client[name].list_collection_names():
                    async for document in client[name][collection].find({}):
                        yield f"{name}.{collection}", str(document)


def found_in_files(root: Path, needles: Sequence[str]) -> list[Found]:
    """Files below a directory whose path or content holds a needle."""
    found: list[Found] = []
    for path in files_below(root):
        content = path.read_bytes()
        name = str(path.relative_to(root))
        found += [(name, needle) for needle in needles if needle in name or needle.encode() in content]
    return sorted(set(found))


async def found_in_nats(url: str, needles: Sequence[str]) -> list[Found]:
    """Streams with a message that holds a needle."""
    found: list[Found] = []
    async for stream, data in everything_in_nats(url):
        found += [(stream, needle) for needle in needles if needle.encode() in data]
    return sorted(set(found))


async def everything_in_nats(url: str) -> AsyncIterator[tuple[str, bytes]]:
    """Every message that is kept, with its stream."""
    client = await nats.connect(url)
    try:
        jetstream = client.jetstream()
        for info in await jetstream.streams_info():
            name = info.config.name or ""
            for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
                try:
                    message = await jetstream.get_msg(name, sequence)
                except NotFoundError:
                    continue
                yield name, message.data or b""
    finally:
        await client.close()


async def _rows(connection: psycopg.AsyncConnection[Any], table: str) -> AsyncIterator[tuple[Any, ...]]:
    async with connection.cursor() as cursor:
        await cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        async for row in cursor:
            yield row


def _text(value: Any) -> str:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode(errors="replace")
    if isinstance(value, dict):
        return "\n".join(f"{_text(name)}\n{_text(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple, set)):
        return "\n".join(_text(item) for item in value)
    return str(value)


def files_below(root: Path) -> Iterator[Path]:
    """Those of a size that can be read at once."""
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_FILE_BYTES:
            yield path
