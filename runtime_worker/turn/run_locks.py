"""One run at a time per conversation, across all workers, and who is alive: two keys in Redis for each run.

`run_lock:{org_id}:{conversation_id}` holds the id of the running run, `run:{run_id}` that its worker lives. Both expire
unless renewed, so a killed worker blocks a conversation for `LOCK_SECONDS` at most.
"""

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.turn.run import Run, RunTable
from shared.errors import ConversationBusy
from shared.logging import get_logger

LOCK_SECONDS = 15
RENEW_SECONDS = 4.0
RELEASE_SECONDS = 0.5
"""How long the end of a run waits for Redis; after that the release happens behind its back."""

_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[2])
  return false
end
return redis.call('GET', KEYS[1])
"""
# Only the holder may renew or release: after an expiry another run may hold the lock.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[2])
end
"""

log = get_logger(__name__)


class RunLocks:
    """Takes, renews and releases the locks of this worker's runs.

    `unstored` gives the runs that have ended and whose end is not stored yet: their conversations are free, but they
    count as alive, because whoever finds a dead run that is stored as running takes it for lost.
    """

    def __init__(
        self,
        redis: "Redis",
        worker_id: str,
        table: RunTable,
        unstored: Callable[[], Collection[UUID]] = frozenset,
    ) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._table = table
        self._unstored = unstored
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._unreleased: dict[UUID, tuple[str, str]] = {}

    async def acquire(self, org_id: UUID, conversation_id: UUID, run_id: UUID) -> None:
        """Raises ConversationBusy naming the run that holds it."""
        keys = _keys(org_id, conversation_id, run_id)
        holder = await self._acquire(keys=keys, args=[str(run_id), LOCK_SECONDS, self._worker_id])
        if holder is not None:
            raise ConversationBusy(f"run {holder.decode()} is in progress in this conversation")

    async def release(self, org_id: UUID, conversation_id: UUID, run_id: UUID) -> None:
        """Give the lock back; when Redis does not answer at once, later. Never raises."""
        keys = _keys(org_id, conversation_id, run_id)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._release_now(run_id, keys)
        except (RedisError, TimeoutError):
            self._unreleased[run_id] = keys

    async def is_alive(self, run_id: UUID) -> bool:
        """Whether some worker still drives the run, or keeps its end to store it."""
        return bool(await self._redis.exists(_alive(run_id)))

    async def run(self) -> None:
        """Renew what runs, release what could not be released, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew_all(self._table.all(), self._unstored())
                for run_id, keys in list(self._unreleased.items()):
                    await self._release_now(run_id, keys)
                    self._unreleased.pop(run_id, None)
            except RedisError as error:
                log.warning("run_locks_not_renewed", reason=type(error).__name__, runs=len(self._table))

    async def _release_now(self, run_id: UUID, keys: tuple[str, str]) -> None:
        is_over = run_id not in self._unstored()
        await self._release(keys=keys, args=[str(run_id), int(is_over)])

    async def _renew_all(self, runs: list[Run], unstored: Collection[UUID] = ()) -> None:
        if not runs and not unstored:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                keys = _keys(run.org_id, run.conversation_id, run.run_id)
                await self._renew(keys=keys, args=[str(run.run_id), LOCK_SECONDS, self._worker_id], client=pipe)
            for run_id in unstored:
                pipe.set(_alive(run_id), self._worker_id, ex=LOCK_SECONDS)
            await pipe.execute()


def _keys(org_id: UUID, conversation_id: UUID, run_id: UUID) -> tuple[str, str]:
    return f"run_lock:{org_id}:{conversation_id}", _alive(run_id)


def _alive(run_id: UUID) -> str:
    return f"run:{run_id}"
