"""Login sessions in Redis: `session:{jti}` holds one as JSON until it expires, `user_sessions:{user_id}` lists them.

A token is only as alive as its session here: deleting the key ends it on the very next request, in both planes.
"""

from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.clock import Clock
from shared.errors import NotAuthenticated
from shared.ids import new_session_id


class Session(msgspec.Struct, frozen=True):
    session_id: str
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    address: str = ""
    user_agent: str = ""


# Both in one step each: a rotation in the middle of ending all sessions would leave behind the one it makes.
_ROTATE = """
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return 1
"""
_END_ALL = """
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if id ~= ARGV[1] then
    redis.call('DEL', ARGV[2] .. id)
    redis.call('ZREM', KEYS[1], id)
    ended = ended + 1
  end
end
return ended
"""


class SessionStore:
    """Creates, finds and ends sessions. Redis errors pass through; the edge answers them with a 503."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._decoder = msgspec.json.Decoder(Session)
        self._rotate = redis.register_script(_ROTATE)
        self._end_all = redis.register_script(_END_ALL)

    async def start(self, user_id: UUID, lifetime: timedelta, *, address: str = "", user_agent: str = "") -> Session:
        session = self._new(user_id, lifetime, address, user_agent)
        now = session.created_at
        listing = _listing(user_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key(session.session_id), msgspec.json.encode(session), ex=lifetime)
            pipe.zadd(listing, {session.session_id: session.expires_at.timestamp()})
            pipe.zremrangebyscore(listing, "-inf", now.timestamp())
            pipe.expire(listing, lifetime)
            await pipe.execute()
        return session

    async def rotate(self, old: Session, lifetime: timedelta, *, address: str = "", user_agent: str = "") -> Session:
        """End a session and start one in its place. Raises NotAuthenticated when it has ended meanwhile."""
        new = self._new(old.user_id, lifetime, address, user_agent)
        keys = [_key(old.session_id), _key(new.session_id), _listing(old.user_id)]
        seconds = max(1, int(lifetime.total_seconds()))
        args: list[str | bytes | float] = [
            old.session_id,
            new.session_id,
            msgspec.json.encode(new),
            new.expires_at.timestamp(),
            seconds,
        ]
        if not await self._rotate(keys=keys, args=args):
            raise NotAuthenticated
        return new

    async def get(self, session_id: str) -> Session:
        """Raises NotAuthenticated when it has ended or never was."""
        return self.read(cast("bytes | None", await self._redis.get(_key(session_id))))

    def key(self, session_id: str) -> str:
        """What `read` wants the value of, for a caller who has more to ask Redis in the same round trip."""
        return _key(session_id)

    def read(self, raw: bytes | None) -> Session:
        """What `get` returns, out of the value of its `key`."""
        if raw is None:
            raise NotAuthenticated
        return self._decoder.decode(raw)

    async def of_user(self, user_id: UUID) -> list[Session]:
        """The user's living sessions, oldest expiry first."""
        ids = cast("list[bytes]", await self._redis.zrange(_listing(user_id), 0, -1))
        if not ids:
            return []
        raws = await self._redis.mget([_key(i.decode()) for i in ids])
        return [self._decoder.decode(raw) for raw in raws if raw is not None]

    async def end(self, session_id: str, user_id: UUID) -> bool:
        """End one session; whether it was alive until now, which only one of several callers is told."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(_key(session_id))
            pipe.zrem(_listing(user_id), session_id)
            deleted, _ = await pipe.execute()
        return bool(deleted)

    async def end_all(self, user_id: UUID, *, keep: str | None = None) -> int:
        """End every session of a user except `keep`; the number ended."""
        return cast("int", await self._end_all(keys=[_listing(user_id)], args=[keep or "", _key("")]))

    def _new(self, user_id: UUID, lifetime: timedelta, address: str, user_agent: str) -> Session:
        now = self._clock.now()
        return Session(new_session_id(), user_id, now, now + lifetime, address, user_agent[:200])


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _listing(user_id: UUID) -> str:
    return f"user_sessions:{user_id}"
