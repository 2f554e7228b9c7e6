"""Whether an organization may be served at all, for callers who have no grant in it; cached as grants are.

The cached state carries the organization's generation from before it was read, so that a suspension counts on the very
next request (decision 0003).
"""

from collections.abc import Awaitable, Callable
from typing import Literal, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.security.grants import GRANT_SECONDS, org_generation


class OrganizationState(msgspec.Struct, frozen=True):
    """`status` is None for an organization that is unknown or deleted."""

    status: Literal["active", "suspended"] | None


OrganizationLoader = Callable[[UUID], Awaitable[OrganizationState]]
"""Reads the state from the truth: `GET /internal/organizations/…` in a worker."""


class _Cached(msgspec.Struct, frozen=True):
    generation: int
    state: OrganizationState


class OrganizationStates:
    """One round trip to Redis per lookup when the state is cached."""

    def __init__(self, redis: "Redis", load: OrganizationLoader) -> None:
        self._redis = redis
        self._load = load
        self._decoder = msgspec.json.Decoder(_Cached)

    async def get(self, org_id: UUID) -> OrganizationState:
        key = f"org_state:{org_id}"
        raw, given = cast("list[bytes | None]", await self._redis.mget(key, org_generation(org_id)))
        generation = int(given or 0)
        if raw is not None:
            cached = self._decoder.decode(raw)
            if cached.generation == generation:
                return cached.state
        state = await self._load(org_id)
        await self._redis.set(key, msgspec.json.encode(_Cached(generation, state)), ex=GRANT_SECONDS)
        return state
