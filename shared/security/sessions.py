"""Login sessions in Redis: `session:{jti}` holds one as JSON until it expires, `user_sessions:{user_id}` lists them.

A token is only as alive as its session here: deleting the key ends it on the very next request, in both planes.
`session_spent:{jti}` remembers, until its token would have expired, that a session was exchanged for another: whoever
comes with it again has a copy, and nobody can tell which of the two is the thief.
"""

import math
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
    family: str = ""
    """The session that the user began by logging in; its own id for that one."""


class _Spent(msgspec.Struct, frozen=True):
    user_id: UUID
    family: str
    at: datetime


REUSE_GRACE_SECONDS = 10.0
"""How long after an exchange the old token may come again: two tabs refresh at once, or an answer was lost."""

# Both in one step each: a rotation in the middle of ending all sessions would leave behind the one it makes.
_ROTATE = """
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('SET', KEYS[4], ARGV[6], 'EX', ARGV[7])
return 1
"""
_END_ALL = """
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local session = ARGV[3] ~= '' and redis.call('GET', ARGV[2] .. id)
  if id ~= ARGV[1] and (ARGV[3] == '' or (session and cjson.decode(session).family == ARGV[3])) then
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
        new = self._new(old.user_id, lifetime, address, user_agent, family=old.family or old.session_id)
        keys = [_key(old.session_id), _key(new.session_id), _listing(old.user_id), _spent(old.session_id)]
        seconds = max(1, int(lifetime.total_seconds()))
        spent = _Spent(old.user_id, new.family, new.created_at)
        left = max(1, math.ceil((old.expires_at - new.created_at).total_seconds()))
        args: list[str | bytes | float] = [
            old.session_id,
            new.session_id,
            msgspec.json.encode(new),
            new.expires_at.timestamp(),
            seconds,
            msgspec.json.encode(spent),
            left,
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
        return cast("int", await self._end_all(keys=[_listing(user_id)], args=[keep or "", _key(""), ""]))

    async def end_if_reused(self, session_id: str) -> _Spent | None:
        """End everything that came of the same login when somebody wants to exchange a session once more.

        None, and nothing ends, where it was not exchanged before, or only a moment ago.
        """
        raw = await self._redis.get(_spent(session_id))
        if raw is None:
            return None
        spent = msgspec.json.decode(raw, type=_Spent)
        if (self._clock.now() - spent.at).total_seconds() < REUSE_GRACE_SECONDS:
            return None
        await self._end_all(keys=[_listing(spent.user_id)], args=["", _key(""), spent.family])
        return spent

    def _new(
        self, user_id: UUID, lifetime: timedelta, address: str, user_agent: str, family: str | None = None
    ) -> Session:
        now, session_id = self._clock.now(), new_session_id()
        return Session(session_id, user_id, now, now + lifetime, address, user_agent[:200], family or session_id)


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _spent(session_id: str) -> str:
    return f"session_spent:{session_id}"


def _listing(user_id: UUID) -> str:
    return f"user_sessions:{user_id}"
