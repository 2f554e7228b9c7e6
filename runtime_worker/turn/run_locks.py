"""One run at a time per conversation, and one worker at a time per run, across all workers.

`run_lock:{org_id}:{conversation_id}` holds the id of the running run and expires unless renewed. `run_claims` lists
every run that is going on (`{org_id}:{run_id}`) by the time until which its worker vouches for it, `run:{run_id}` says
which worker that is and the *epoch*: one more each time the run changes hands. A worker that finds another epoch than
its own was taken for lost, and whatever it still has to say of the run is not heard. All times are Redis's own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.turn.run import Run, RunTable
from shared.errors import ConversationBusy
from shared.logging import get_logger
from shared.usage import FIELD, STREAM

LOCK_SECONDS = 15
RENEW_SECONDS = 1.0
CLAIM_SECONDS = 4.0
"""Four renewals, so that a busy moment does not cost a run; a lost worker is noticed within 5 s all the same."""
MEMORY_SECONDS = 3600
"""How long a run that changed hands is remembered, for the worker that lost it and may wake up."""
RELEASE_SECONDS = 2.0
"""How long the end of a run waits for Redis, as long as for its saving; after that the release happens behind its back.
The client is told of the end only then: it may send its next message the moment it reads that."""
MAX_LOST = 50
"""How many lost runs one worker takes at a time; the others take the rest."""

CLAIMS = "run_claims"
_CLAIM_MS = round(CLAIM_SECONDS * 1000)

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_ACQUIRE = (
    _NOW
    + """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])
  redis.call('HSET', KEYS[3], 'owner', ARGV[5], 'epoch', 1)
  redis.call('EXPIRE', KEYS[3], 86400)
  return false
end
return redis.call('GET', KEYS[1])
"""
)
# Only the holder may renew or release: after an expiry another run may hold the lock, another worker the run.
_RENEW = (
    _NOW
    + """
local lost = {}
for i = 4, #ARGV, 3 do
  local at = 2 * (i - 4) / 3 + 2
  local epoch = redis.call('HGET', KEYS[at + 1], 'epoch')
  if epoch and epoch ~= ARGV[i + 2] then
    table.insert(lost, ARGV[i])
  else
    if not epoch then
      redis.call('HSET', KEYS[at + 1], 'owner', ARGV[3], 'epoch', ARGV[i + 2])
      redis.call('EXPIRE', KEYS[at + 1], 86400)
    end
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i + 1])
    local holder = redis.call('GET', KEYS[at])
    if holder == false or holder == ARGV[i] then
      redis.call('SET', KEYS[at], ARGV[i], 'EX', ARGV[2])
    end
  end
end
return lost
"""
)
_RELEASE = """
local epoch = redis.call('HGET', KEYS[3], 'epoch')
if epoch and epoch ~= ARGV[3] then
  return 0
end
if ARGV[6] ~= '' then
  redis.call('XADD', KEYS[4], '*', ARGV[7], ARGV[6])
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  if ARGV[3] == '1' then
    redis.call('DEL', KEYS[3])
  else
    redis.call('EXPIRE', KEYS[3], ARGV[5])
  end
end
return 1
"""
_TAKE = (
    _NOW
    + """
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) > now then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], 'owner', ARGV[2])
return redis.call('HINCRBY', KEYS[2], 'epoch', 1)
"""
)
_LOST = _NOW + "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])"

_Argument = str | bytes | int

log = get_logger(__name__)


class Claim(Protocol):
    """What is vouched for: a run, or the end of one that is not stored yet."""

    @property
    def org_id(self) -> UUID: ...
    @property
    def conversation_id(self) -> UUID: ...
    @property
    def run_id(self) -> UUID: ...
    @property
    def epoch(self) -> int: ...


class Held(msgspec.Struct, frozen=True):
    """A lock that was taken and is not given back yet: its run is going on, or about to."""

    org_id: UUID
    conversation_id: UUID
    run_id: UUID
    epoch: int = 1


class LostRun(msgspec.Struct, frozen=True):
    """A run whose worker vouches for it no longer, and which is ours now, in the epoch that began with that."""

    org_id: UUID
    run_id: UUID
    epoch: int


class RunLocks:
    """Takes, renews and releases the locks of this worker's runs, and takes over what others lost.

    `unstored` gives the runs that have ended and whose end is not stored yet: their conversations are free, but they
    are vouched for, because whoever finds a run that nobody vouches for takes it for lost.
    """

    def __init__(
        self,
        redis: "Redis",
        worker_id: str,
        table: RunTable,
        unstored: Callable[[], Collection[Claim]] = tuple,
    ) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._table = table
        self._unstored = unstored
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._take = redis.register_script(_TAKE)
        self._lost = redis.register_script(_LOST)
        self._held: dict[UUID, Held] = {}
        self._unreleased: dict[UUID, tuple[UUID, UUID, int, bytes | None]] = {}
        self._renewed_at = float("-inf")

    async def acquire(self, org_id: UUID, conversation_id: UUID, run_id: UUID) -> None:
        """From here on the run is vouched for, however long its start takes. Raises ConversationBusy naming the run
        that holds it."""
        self._held[run_id] = Held(org_id, conversation_id, run_id)
        args: list[_Argument] = [str(run_id), LOCK_SECONDS, _member(org_id, run_id), _CLAIM_MS, self._worker_id]
        try:
            holder = await self._acquire(keys=_keys(org_id, conversation_id, run_id), args=args)
        except BaseException:
            # It may have been taken, and nobody will give it back: it runs out.
            del self._held[run_id]
            raise
        if holder is not None:
            del self._held[run_id]
            raise ConversationBusy(f"run {holder.decode()} is in progress in this conversation")

    async def release(
        self, org_id: UUID, conversation_id: UUID, run_id: UUID, epoch: int = 1, *, usage_entry: bytes | None = None
    ) -> None:
        """Give the lock back and, in the same step, have counted what the run used; when Redis does not answer at once,
        later. Never raises."""
        self._held.pop(run_id, None)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._release_now(org_id, conversation_id, run_id, epoch, usage_entry)
        except (RedisError, TimeoutError):
            self._unreleased[run_id] = org_id, conversation_id, epoch, usage_entry

    async def is_alive(self, org_id: UUID, run_id: UUID) -> bool:
        """Whether some worker drives the run, keeps its end to store it, or will take it over in a moment."""
        return await self._redis.zscore(CLAIMS, _member(org_id, run_id)) is not None

    async def is_ours(self, run: Run) -> bool:
        """Whether nobody has taken the run over. Asks Redis only when we may have been away long enough for that."""
        if run.is_lost:
            return False
        vouched_at = max(self._renewed_at, run.claimed_at)
        if asyncio.get_running_loop().time() - vouched_at < CLAIM_SECONDS - RENEW_SECONDS:
            return True
        try:
            epoch = await cast("Awaitable[bytes | None]", self._redis.hget(_record(run.run_id), "epoch"))
        except RedisError:
            # Without Redis nobody takes anything over.
            return True
        return epoch is None or int(epoch) == run.epoch

    async def take_lost(self) -> list[LostRun]:
        """Take over runs that nobody vouches for. Of workers that try at once, one gets each. Raises RedisError."""
        members = cast("Sequence[bytes]", await self._lost(keys=[CLAIMS], args=[MAX_LOST]))
        taken: list[LostRun] = []
        for member in members:
            org_id, run_id = (UUID(part) for part in member.decode().split(":"))
            if run_id in self._held or self._table.find(run_id):
                # Ours, and alive: it was this worker that stood still, and it is about to renew.
                continue
            args: list[_Argument] = [member, self._worker_id, _CLAIM_MS]
            if epoch := int(await self._take(keys=[CLAIMS, _record(run_id)], args=args)):
                taken.append(LostRun(org_id, run_id, epoch))
        return taken

    def letting_go(self, run: Run) -> tuple[bytes, ...]:
        """The command that gives a run to whoever takes it first. It must follow the last event that was told of it.
        From now on it is not vouched for any more."""
        self._held.pop(run.run_id, None)
        return b"ZADD", CLAIMS.encode(), b"XX", b"0", _member(run.org_id, run.run_id).encode()

    async def forget(self, lost: LostRun) -> None:
        """There was nothing to take over. Raises RedisError."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(CLAIMS, _member(lost.org_id, lost.run_id))
            pipe.expire(_record(lost.run_id), MEMORY_SECONDS)
            await pipe.execute()

    async def run(self) -> None:
        """Renew what runs, release what could not be released, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew_all([*self._held.values(), *self._taken_over(), *self._unstored()])
                for run_id, (org_id, conversation_id, epoch, entry) in list(self._unreleased.items()):
                    await self._release_now(org_id, conversation_id, run_id, epoch, entry)
                    self._unreleased.pop(run_id, None)
            except RedisError as error:
                log.warning("run_locks_not_renewed", reason=type(error).__name__, runs=len(self._table))

    def _taken_over(self) -> list[Run]:
        """Runs of ours that began elsewhere: their locks were not taken here."""
        return [run for run in self._table.all() if run.run_id not in self._held]

    async def _release_now(
        self, org_id: UUID, conversation_id: UUID, run_id: UUID, epoch: int, usage_entry: bytes | None
    ) -> None:
        is_over = run_id not in {claim.run_id for claim in self._unstored()}
        args: list[_Argument] = [str(run_id), _member(org_id, run_id), epoch, int(is_over), MEMORY_SECONDS]
        args += usage_entry or b"", FIELD
        await self._release(keys=[*_keys(org_id, conversation_id, run_id), STREAM], args=args)

    async def _renew_all(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        asked_at = asyncio.get_running_loop().time()
        keys = [CLAIMS]
        args: list[_Argument] = [_CLAIM_MS, LOCK_SECONDS, self._worker_id]
        for claim in claims:
            lock, _, record = _keys(claim.org_id, claim.conversation_id, claim.run_id)
            keys += lock, record
            args += str(claim.run_id), _member(claim.org_id, claim.run_id), claim.epoch
        lost = cast("Sequence[bytes]", await self._renew(keys=keys, args=args))
        self._renewed_at = asked_at
        for run_id in lost:
            self._held.pop(UUID(run_id.decode()), None)
            if run := self._table.find(UUID(run_id.decode())):
                log.error("run_was_taken_over", run_id=str(run.run_id), org_id=str(run.org_id))
                run.lose()


def _keys(org_id: UUID, conversation_id: UUID, run_id: UUID) -> list[str]:
    return [f"run_lock:{org_id}:{conversation_id}", CLAIMS, _record(run_id)]


def _record(run_id: UUID) -> str:
    return f"run:{run_id}"


def _member(org_id: UUID, run_id: UUID) -> str:
    return f"{org_id}:{run_id}"
