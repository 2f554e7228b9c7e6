"""Finding runs that nobody vouches for any more, and making them ours: of workers that try at once, one gets each.

A claim also runs out when its worker lives and Redis is away, or when we are. So there are times at which nobody is
taken for lost: everybody else has to be able to renew first.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.stream.run_log import events_key
from runtime_worker.turn.claim_scripts import LOST, TAKE
from runtime_worker.turn.claims import CLAIMS, LostRun, member_of, record_key
from runtime_worker.turn.run_locks import CLAIM_SECONDS, MEMORY_SECONDS

BLIND_SECONDS = 2.0
"""Between two looks at the claims: in more than that the claims of workers that live may have run out unseen. In less,
whoever missed a renewal has made another before: a claim is two renewals longer."""
MAX_LOST = 50
"""How many lost runs one worker is ending at a time; the others take the rest."""


class LostRuns:
    """`has` tells whether a run is this worker's own."""

    def __init__(self, redis: "Redis", worker_id: str, has: Callable[[UUID], bool]) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._has = has
        self._take = redis.register_script(TAKE)
        self._lost = redis.register_script(LOST)
        self._looked_at: float | None = None
        self._patient_until = float("-inf")

    def begin(self) -> None:
        """This worker begins, and does not know whether Redis has been away until now."""
        self._patient_until = asyncio.get_running_loop().time() + CLAIM_SECONDS

    async def take(self, limit: int = MAX_LOST) -> list[LostRun]:
        """Up to so many; none for a while after Redis was away, or this worker was, or began. Raises RedisError."""
        loop = asyncio.get_running_loop()
        looked_at = self._looked_at if self._looked_at is not None else loop.time()
        try:
            members = cast("Sequence[bytes]", await self._lost(keys=[CLAIMS], args=[limit]))
        except RedisError:
            if self._looked_at is None:
                # It has been away since before we began, nobody knows for how long.
                self._looked_at = float("-inf")
            raise
        self._looked_at = loop.time()
        if self._looked_at - looked_at > BLIND_SECONDS:
            self._patient_until = self._looked_at + CLAIM_SECONDS
        if self._looked_at < self._patient_until:
            return []
        return [lost for lost in await asyncio.gather(*map(self._take_one, members)) if lost is not None]

    async def forget(self, lost: LostRun) -> None:
        """There was nothing to take over. Raises RedisError."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(CLAIMS, member_of(lost.org_id, lost.run_id))
            pipe.expire(record_key(lost.run_id), MEMORY_SECONDS)
            await pipe.execute()

    async def _take_one(self, member: bytes) -> LostRun | None:
        org_id, run_id = (UUID(part) for part in member.decode().split(":"))
        if self._has(run_id):
            # It was this worker that stood still, and it is about to renew.
            return None
        args: list[str | bytes | int] = [member, self._worker_id, round(CLAIM_SECONDS * 1000)]
        keys = [CLAIMS, record_key(run_id), events_key(run_id)]
        epoch, is_refused = cast("tuple[int, int]", await self._take(keys=keys, args=args))
        return LostRun(org_id, run_id, epoch, is_refused=bool(is_refused)) if epoch else None
