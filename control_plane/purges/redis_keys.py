"""What Redis still holds of an organization: every key is looked at, since not every name says whose it is."""

from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis

BATCH = 500


async def forget_in_redis(redis: Redis, org_id: UUID) -> int:
    """Remove keys named after the organization or about it, and its parts of keys that are about many; how many."""
    needle, count = str(org_id).encode(), 0
    batch: list[bytes] = []
    async for key in redis.scan_iter(count=BATCH):
        batch.append(key)
        if len(batch) == BATCH:
            count += await _forget(redis, batch, needle)
            batch = []
    return count + await _forget(redis, batch, needle)


async def _forget(redis: Redis, keys: list[bytes], needle: bytes) -> int:
    if not keys:
        return 0
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.type(key)
        kinds = await pipe.execute()
    gone = [key for key in keys if needle in key]
    others = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if needle not in key]
    texts = [key for key, kind in others if kind == b"string"]
    if texts:
        values = cast("list[bytes | None]", await redis.mget(texts))
        gone += [key for key, value in zip(texts, values, strict=True) if value and needle in value]
    if gone:
        await redis.delete(*gone)
    parts = 0
    for key, kind in others:
        if kind in _PARTS:
            parts += await _PARTS[kind](redis, key, needle)
    return len(gone) + parts


async def _forget_fields(redis: Redis, key: bytes, needle: bytes) -> int:
    fields = cast("dict[bytes, bytes]", await cast("Any", redis.hgetall(key)))
    about = [name for name, value in fields.items() if needle in name or needle in value]
    return int(await cast("Any", redis.hdel(key, *about))) if about else 0


async def _forget_scored(redis: Redis, key: bytes, needle: bytes) -> int:
    about = [member async for member, _ in redis.zscan_iter(key) if needle in member]
    return int(await redis.zrem(key, *about)) if about else 0


async def _forget_members(redis: Redis, key: bytes, needle: bytes) -> int:
    about = [member async for member in redis.sscan_iter(key) if needle in member]
    return int(await cast("Any", redis.srem(key, *about))) if about else 0


async def _forget_entries(redis: Redis, key: bytes, needle: bytes) -> int:
    """What runs used that were never counted; a counted entry is gone. The organizations' own streams went by name."""
    about = [
        entry_id
        for entry_id, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(key))
        if any(needle in value for value in fields.values())
    ]
    return int(await redis.xdel(key, *about)) if about else 0


_PARTS = {b"hash": _forget_fields, b"zset": _forget_scored, b"set": _forget_members, b"stream": _forget_entries}
