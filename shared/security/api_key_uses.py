"""When API keys were last used, without a write for each request.

A process remembers its keys' last uses and tells Redis every half minute; the control plane moves them to PostgreSQL.
A process that is killed forgets what it had not told, which is half a minute at most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.clock import Clock
from shared.logging import get_logger

TELL_SECONDS = 30.0
_TOLD = "api_key_uses"
_MOVING = "api_key_uses:moving"

log = get_logger(__name__)

StoreUses = Callable[[Mapping[UUID, datetime]], Awaitable[None]]


class APIKeyUses:
    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._uses: dict[UUID, datetime] = {}

    def note(self, key_id: UUID) -> None:
        self._uses[key_id] = self._clock.now()

    async def run(self) -> None:
        """Tell every half minute, until cancelled."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self.tell()

    async def tell(self) -> None:
        """Tell Redis what is new. What it cannot be told now it is told next time."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        told: dict[Any, Any] = {key_id.hex: at.isoformat() for key_id, at in uses.items()}
        try:
            await self._redis.hset(_TOLD, mapping=told)
        except RedisError as error:
            self._uses = {**uses, **self._uses}
            log.warning("api_key_uses_not_told", reason=type(error).__name__)

    async def move(self, store: StoreUses) -> None:
        """Store what all processes have told, and forget it. Also what an earlier move, which died, had begun with."""
        if not await self._redis.exists(_MOVING):
            if not await self._redis.exists(_TOLD):
                return
            # Away from where others write; of two processes that move at once one finds nothing more.
            await self._redis.renamenx(_TOLD, _MOVING)
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(_MOVING))
        await store({UUID(key_id.decode()): datetime.fromisoformat(at.decode()) for key_id, at in told.items()})
        await self._redis.delete(_MOVING)
