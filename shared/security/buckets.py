"""Token buckets in Redis: several at once in one round trip, and nothing is taken unless every one of them has a token.

A bucket is full at first and fills up again at an even rate. Redis keeps the time, so all processes agree on it.
"""

import math
from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from shared.errors import RateLimited

_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local left = {}
local short, wait = 0, 0
for i, key in ipairs(KEYS) do
  local size, per_ms = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local known = redis.call('HMGET', key, 't', 'at')
  local tokens = size
  if known[1] then
    tokens = math.min(size, tonumber(known[1]) + math.max(0, now - tonumber(known[2])) * per_ms)
  end
  left[i] = tokens
  if tokens < 1 and (1 - tokens) / per_ms > wait then
    short, wait = i, math.ceil((1 - tokens) / per_ms)
  end
end
if short > 0 then
  return {short, wait}
end
for i, key in ipairs(KEYS) do
  local size, per_ms = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  redis.call('HSET', key, 't', tostring(left[i] - 1), 'at', now)
  redis.call('PEXPIRE', key, math.ceil(size / per_ms) + 1000)
end
return {0, 0}
"""


class Bucket(msgspec.Struct, frozen=True):
    """`size` is how many requests may come at once, `per_minute` how fast it fills up again."""

    key: str
    size: int
    per_minute: int


class TokenBuckets:
    def __init__(self, redis: "Redis") -> None:
        self._take = redis.register_script(_TAKE)

    async def take(self, buckets: Sequence[Bucket]) -> None:
        """Take a token of each. Raises RateLimited, and nothing is taken, when one of them has none."""
        args = [value for bucket in buckets for value in (bucket.size, bucket.per_minute / 60_000)]
        answer = await self._take(keys=[bucket.key for bucket in buckets], args=args)
        short, wait_ms = cast("list[int]", answer)
        if short:
            bucket = buckets[short - 1]
            raise RateLimited(
                f"at most {bucket.per_minute} requests a minute are answered here without a session",
                retry_after_seconds=math.ceil(wait_ms / 1000),
                limit=bucket.per_minute,
            )
