"""Token buckets in Redis: several at once in one round trip, and nothing is taken unless every one of them has a token.

A bucket is full at first and fills up again at an even rate. Redis keeps the time, so all processes agree on it.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from shared.errors import RateLimited

NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
BUCKETS = """
local function bucket(key, per_minute, burst)
  local state = redis.call('HMGET', key, 'tokens', 'at')
  local tokens, at = tonumber(state[1]) or burst, tonumber(state[2]) or now
  tokens = math.min(burst, tokens + math.max(0, now - at) * per_minute / 60000)
  return {key = key, per_minute = per_minute, burst = burst, tokens = tokens}
end

local function seconds_until(one, tokens) return math.ceil((tokens - one.tokens) * 60 / one.per_minute) end

local function take(one)
  redis.call('HSET', one.key, 'tokens', one.tokens - 1, 'at', now)
  redis.call('PEXPIRE', one.key, math.ceil(one.burst * 60000 / one.per_minute) + 1000)
end
"""
"""What a script needs that decides by buckets, behind `NOW`. Each is looked at before any is taken from."""

# KEYS: the buckets. ARGV: the size of each and what it gets in a minute. Answers which one is longest without a token,
# from 1 on, and for how many seconds.
_TAKE = (
    NOW
    + BUCKETS
    + """
local all, short, wait = {}, 0, 0
for i, key in ipairs(KEYS) do
  local one = bucket(key, tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i - 1]))
  if one.tokens < 1 and seconds_until(one, 1) > wait then
    short, wait = i, seconds_until(one, 1)
  end
  all[i] = one
end
if short == 0 then
  for _, one in ipairs(all) do take(one) end
end
return {short, wait}
"""
)


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
        args = [value for bucket in buckets for value in (bucket.size, bucket.per_minute)]
        answer = await self._take(keys=[bucket.key for bucket in buckets], args=args)
        short, wait_seconds = cast("list[int]", answer)
        if short:
            bucket = buckets[short - 1]
            raise RateLimited(
                f"at most {bucket.per_minute} requests a minute are answered here without a session",
                retry_after_seconds=wait_seconds,
                limit=bucket.per_minute,
            )
