"""Throttling of password checks, per user and per address, in one atomic step."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import RateLimited
from shared.security.client_addresses import site_of

WINDOW_SECONDS = 300
PER_USER = 10
PER_ADDRESS = 100
"""Failures allowed in a window. An address may be a whole office behind one router, so it gets more;
of IPv6 it is what one subscriber has."""

UNDECIDED_SECONDS = 15
"""How long an attempt counts whose end nobody tells, because a store went away or the process died in the middle of it:
long enough for a burst of parallel guesses to be stopped, short enough to lock nobody out."""

# Each key is a sorted set of attempts, scored with the time at which they stop counting. An attempt is added to all of
# them, or to none when one is full: {allowed, remaining, seconds until a place is free}. Checking first and counting
# later in two steps would let a burst of parallel guesses through. Repeating it for the same attempt changes nothing,
# as a client does whose connection broke.
_TAKE = """
local now, remaining, reset = tonumber(redis.call('TIME')[1]), math.huge, 0
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local left = tonumber(ARGV[i + 1]) - redis.call('ZCARD', key)
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  local wait = oldest[2] and tonumber(oldest[2]) - now or 0
  if left <= 0 and not redis.call('ZSCORE', key, ARGV[1]) then
    return {0, 0, math.max(wait, 1)}
  end
  if left < remaining then
    remaining, reset = left, wait
  end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[4]), ARGV[1])
  redis.call('EXPIRE', key, ARGV[5])
end
return {1, remaining - 1, reset}
"""

_FAILED = """
local now = tonumber(redis.call('TIME')[1])
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + tonumber(ARGV[2]), ARGV[1])
  redis.call('EXPIRE', key, ARGV[2])
end
"""


class Attempt:
    """One password check. It counts while it lasts, and for the whole window when it failed."""

    def __init__(self, throttle: "LoginThrottle", keys: list[str]) -> None:
        self.id = secrets.token_hex(8)
        self.keys = keys
        self.has_failed = False
        self._throttle = throttle

    async def failed(self) -> None:
        """The password was wrong. To be called before the caller is told."""
        await self._throttle.count(self)
        self.has_failed = True


class LoginThrottle:
    """An attempt is paid for before the password is looked at, and given back unless the password was wrong."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._take = redis.register_script(_TAKE)
        self._failed = redis.register_script(_FAILED)

    @asynccontextmanager
    async def attempt(self, username: str, address: str) -> AsyncIterator[Attempt]:
        """Raises RateLimited. Known and unknown names are counted alike."""
        attempt = Attempt(self, _keys(username, address))
        allowed, remaining, reset = cast(
            "tuple[int, int, int]",
            await self._take(
                keys=attempt.keys, args=[attempt.id, PER_USER, PER_ADDRESS, UNDECIDED_SECONDS, WINDOW_SECONDS]
            ),
        )
        if not allowed:
            raise RateLimited(
                "too many failed attempts; wait before trying again",
                retry_after_seconds=reset,
                limit=PER_USER,
                remaining=remaining,
            )
        try:
            yield attempt
        finally:
            if not attempt.has_failed:
                await self._give_back(attempt)

    async def count(self, attempt: Attempt) -> None:
        await self._failed(keys=attempt.keys, args=[attempt.id, WINDOW_SECONDS])

    async def _give_back(self, attempt: Attempt) -> None:
        # Without Redis it is forgotten all the same, a little later.
        with suppress(RedisError):
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in attempt.keys:
                    pipe.zrem(key, attempt.id)
                await pipe.execute()


def _keys(username: str, address: str) -> list[str]:
    # What somebody typed into a login form may be a password, so names are never stored readably.
    name = hashlib.sha256(username.strip().lower().encode()).hexdigest()[:32]
    return [f"limit:password:user:{name}", f"limit:password:address:{site_of(address) or 'unknown'}"]
