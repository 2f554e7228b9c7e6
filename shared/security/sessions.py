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


class SessionStore:
    """Creates, finds and ends sessions. Redis errors pass through; the edge answers them with a 503."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._decoder = msgspec.json.Decoder(Session)

    async def start(self, user_id: UUID, lifetime: timedelta, *, address: str = "", user_agent: str = "") -> Session:
        now = self._clock.now()
        session = Session(new_session_id(), user_id, now, now + lifetime, address, user_agent[:200])
        listing = _listing(user_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_key(session.session_id), msgspec.json.encode(session), ex=lifetime)
            pipe.zadd(listing, {session.session_id: session.expires_at.timestamp()})
            pipe.zremrangebyscore(listing, "-inf", now.timestamp())
            pipe.expire(listing, lifetime)
            await pipe.execute()
        return session

    async def get(self, session_id: str) -> Session:
        """Raises NotAuthenticated when it has ended or never was."""
        raw = await self._redis.get(_key(session_id))
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
        ids = cast("list[bytes]", await self._redis.zrange(_listing(user_id), 0, -1))
        ending = [i.decode() for i in ids if i.decode() != keep]
        if ending:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.delete(*[_key(i) for i in ending])
                pipe.zrem(_listing(user_id), *ending)
                await pipe.execute()
        return len(ending)


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _listing(user_id: UUID) -> str:
    return f"user_sessions:{user_id}"
