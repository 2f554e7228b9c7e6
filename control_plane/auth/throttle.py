"""Throttling of password checks, per user and per address, in one atomic step."""

import hashlib
from typing import cast

from redis.asyncio import Redis

from shared.errors import RateLimited

WINDOW_SECONDS = 300
PER_USER = 10
PER_ADDRESS = 100
"""Failures allowed in a window. An address may be a whole office behind one router, so it gets more."""

# Counts an attempt against both keys, or against neither when one is used up: {allowed, remaining, seconds to reset}.
# Checking first and counting later in two steps would let a burst of parallel guesses through.
_TAKE = """
local remaining, reset = math.huge, 0
for i, key in ipairs(KEYS) do
  local used = tonumber(redis.call('GET', key) or '0')
  local left = tonumber(ARGV[i]) - used
  if left <= 0 then
    return {0, 0, math.max(redis.call('TTL', key), 1)}
  end
  if left < remaining then
    remaining = left
    reset = math.max(redis.call('TTL', key), 0)
  end
end
for _, key in ipairs(KEYS) do
  if redis.call('INCR', key) == 1 then
    redis.call('EXPIRE', key, ARGV[3])
  end
end
return {1, remaining - 1, reset}
"""

_GIVE_BACK = """
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or '0') > 0 then
    redis.call('DECR', key)
  end
end
return 1
"""


class LoginThrottle:
    """An attempt is paid for before the password is looked at and given back when it was right."""

    def __init__(self, redis: "Redis") -> None:
        self._take = redis.register_script(_TAKE)
        self._give_back = redis.register_script(_GIVE_BACK)

    async def attempt(self, username: str, address: str) -> None:
        """Raises RateLimited. Known and unknown names are counted alike."""
        allowed, remaining, reset = cast(
            "tuple[int, int, int]",
            await self._take(keys=_keys(username, address), args=[PER_USER, PER_ADDRESS, WINDOW_SECONDS]),
        )
        if not allowed:
            raise RateLimited(
                "too many failed attempts; wait before trying again",
                retry_after_seconds=reset,
                limit=PER_USER,
                remaining=remaining,
            )

    async def succeeded(self, username: str, address: str) -> None:
        await self._give_back(keys=_keys(username, address))


def _keys(username: str, address: str) -> list[str]:
    # What somebody typed into a login form may be a password, so names are never stored readably.
    name = hashlib.sha256(username.strip().lower().encode()).hexdigest()[:32]
    return [f"limit:login:user:{name}", f"limit:login:address:{address or 'unknown'}"]
