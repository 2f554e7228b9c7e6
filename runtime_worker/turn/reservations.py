"""What runs have set aside of their organization's limits: held while they go on, settled with what they used."""

import asyncio
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.conversations.base import TokenUsage
from shared.clock import Clock
from shared.limits import Admission, keys, micros
from shared.limits.limiter import LEASE_SECONDS
from shared.limits.scripts import GIVE_BACK, SETTLE, VOUCH
from shared.logging import get_logger

VOUCH_SECONDS = 1.0
VOUCHED_AT_ONCE = 500
"""Runs in one question to Redis, which answers nobody else meanwhile: about a millisecond."""
SETTLED_AT_ONCE = 256
"""Each has a connection to Redis. With thousands that end together everybody else would find none."""
SETTLE_SECONDS = 0.5
"""How long the end of a run waits for Redis; after that it is settled behind its back."""

log = get_logger(__name__)


class _Settlement(msgspec.Struct, frozen=True):
    """`tokens` and `micros` None: what was set aside is taken for what was used."""

    org_id: UUID
    run_id: UUID
    api_key_id: UUID | None
    tokens: int | None
    micros: int | None


class Reservations:
    """Those of this worker. A worker that dies lets go of its own within seconds."""

    def __init__(self, redis: "Redis", clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._vouch = redis.register_script(VOUCH)
        self._settle = redis.register_script(SETTLE)
        self._give_back = redis.register_script(GIVE_BACK)
        self._held: dict[UUID, tuple[str, str]] = {}
        self._unsettled: dict[UUID, _Settlement] = {}
        self._settling = asyncio.Semaphore(SETTLED_AT_ONCE)

    def hold(self, run_id: UUID, org_id: UUID) -> None:
        """Vouch for what a run has set aside until it is settled or given back."""
        self._held[run_id] = keys.runs(org_id), str(run_id)

    def let_go(self, run_id: UUID) -> None:
        """Another worker has the run, and what it had set aside."""
        self._held.pop(run_id, None)

    async def settle(self, org_id: UUID, run_id: UUID, usage: TokenUsage | None, api_key_id: UUID | None) -> None:
        """The run has ended and used this; None: nobody knows what. When Redis is away, later. Never raises."""
        tokens = None if usage is None else usage.input_tokens + usage.output_tokens
        spent = None if usage is None else micros(usage.cost) or 0
        settlement = _Settlement(org_id, run_id, api_key_id, tokens, spent)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settle_now(settlement)
        except (RedisError, TimeoutError):
            # Held until then: nobody else is let in for what it has used.
            self._unsettled[run_id] = settlement
            self.hold(run_id, org_id)

    async def give_back(self, admission: Admission) -> None:
        """There will be no run. What Redis does not hear now it forgets by itself. Never raises."""
        run_id, org_id = admission.run_id, admission.org_id
        if run_id is None or org_id is None:
            return
        admission.run_id = None
        now = self._clock.now()
        places = [keys.runs(org_id), keys.reserved(org_id), keys.spent(org_id, now)]
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._give_back(keys=places, args=[str(run_id), f"{now.day:02}"])
        except (RedisError, TimeoutError) as error:
            log.warning("reservation_not_given_back", run_id=str(run_id), reason=type(error).__name__)

    async def run(self) -> None:
        """Vouch for what is held, settle what could not be settled, until cancelled."""
        while True:
            await asyncio.sleep(VOUCH_SECONDS)
            try:
                await self.vouch()
                await self._settle_the_rest()
            except RedisError as error:
                log.warning("reservations_not_kept", reason=type(error).__name__, runs=len(self._held))

    async def vouch(self) -> None:
        """Keep what is held for another lease. Raises RedisError."""
        held = list(self._held.items())
        for first in range(0, len(held), VOUCHED_AT_ONCE):
            # What was settled meanwhile is not to be there again.
            words = [words for run_id, words in held[first : first + VOUCHED_AT_ONCE] if run_id in self._held]
            if words:
                lease = round(LEASE_SECONDS * 1000)
                await self._vouch(keys=[place for place, _ in words], args=[lease, *(run_id for _, run_id in words)])

    async def close(self) -> None:
        """The last attempt before leaving; what still cannot be settled is logged by run."""
        try:
            await self._settle_the_rest()
        except RedisError:
            for settlement in self._unsettled.values():
                log.error("usage_lost", run_id=str(settlement.run_id), org_id=str(settlement.org_id))

    async def _settle_the_rest(self) -> None:
        for run_id, settlement in list(self._unsettled.items()):
            await self._settle_now(settlement)
            self._unsettled.pop(run_id, None)

    async def _settle_now(self, settlement: _Settlement) -> None:
        org_id, run_id, now = settlement.org_id, settlement.run_id, self._clock.now()
        async with self._settling:
            await self._settle(
                keys=[keys.runs(org_id), keys.reserved(org_id), keys.spent(org_id, now), keys.settled(org_id, run_id)],
                args=[
                    str(run_id),
                    "" if settlement.tokens is None else settlement.tokens,
                    "" if settlement.micros is None else settlement.micros,
                    f"{now.day:02}",
                    str(settlement.api_key_id or "-"),
                ],
            )
        self._held.pop(run_id, None)
