"""Readiness: every dependency asked at once, each for a bounded time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.events.publisher import EventPublisher
from shared.errors import BrokerUnavailable
from shared.logging import get_logger

log = get_logger(__name__)

CHECK_SECONDS = 2.0

Check = Callable[[], Awaitable[object]]


class DependencyState(msgspec.Struct, frozen=True):
    """`is_needed`: without it this process answers nothing useful, so it is not ready."""

    state: Literal["up", "down"]
    is_needed: bool


class Readiness(msgspec.Struct, frozen=True):
    status: Literal["ready", "not_ready"]
    dependencies: dict[str, DependencyState]


class Health:
    """Asks the dependencies. `needed` and `useful` map a name to a check that raises when it fails."""

    def __init__(self, *, needed: dict[str, Check], useful: dict[str, Check]) -> None:
        self._needed = needed
        self._useful = useful

    async def readiness(self) -> Readiness:
        checks = {**self._needed, **self._useful}
        results = await asyncio.gather(*(self._answers(name, check) for name, check in checks.items()))
        states = {
            name: DependencyState("up" if is_up else "down", name in self._needed)
            for name, is_up in zip(checks, results, strict=True)
        }
        is_ready = all(found.state == "up" for found in states.values() if found.is_needed)
        return Readiness("ready" if is_ready else "not_ready", states)

    @staticmethod
    async def _answers(name: str, check: Check) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:  # whatever goes wrong in a check, the answer is that the dependency is down
            log.warning("dependency_down", dependency=name, reason=type(error).__name__)
            return False
        return True


def postgres_check(engine: AsyncEngine) -> Check:
    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    return check


def redis_check(redis: Redis) -> Check:
    async def check() -> None:
        await redis.ping()

    return check


def broker_check(publisher: EventPublisher) -> Check:
    """Keeps one connection of its own: the relay's belongs to whichever replica leads."""
    one_at_a_time = asyncio.Lock()

    async def check() -> None:
        async with one_at_a_time:
            if not await publisher.ping():
                await publisher.start()
                if not await publisher.ping():
                    raise BrokerUnavailable

    return check
