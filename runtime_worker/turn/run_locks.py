"""One run at a time per conversation, and one worker at a time per run, across all workers.

`run_lock:{org_id}:{conversation_id}` holds the id of the running run and expires unless renewed. `run_claims` lists
every run that is going on (`{org_id}:{run_id}`) by the time until which its worker vouches for it, `run:{run_id}` says
which worker that is and the *epoch*: one more each time the run changes hands. A worker that finds another epoch than
its own was taken for lost, and whatever it still has to say of the run is not heard.
`run_ended:{org_id}:{conversation_id}` holds the id of the run that had the lock last, for `ENDED_SECONDS`.
All times are Redis's own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.turn.claim_scripts import ACQUIRE, RELEASE, RENEW, SURRENDER
from runtime_worker.turn.claims import CLAIMS, Claim, Held, LostRun, Words, member_of, record_key
from runtime_worker.turn.run import Run, RunTable
from shared.errors import ConversationBusy
from shared.logging import get_logger
from shared.usage import FIELD, STREAM

LOCK_SECONDS = 15
RENEW_SECONDS = 0.5
LOCKS_EVERY = 8
"""A lock holds longer than a claim, and is prolonged with every eighth renewal: four seconds of its fifteen."""
CLAIM_SECONDS = 3.0
"""Six renewals, so that a busy moment does not cost a run. Runs of lost workers are ended within 5 s all the same, also
when several workers go at once and those that stay have many to end."""
ENDED_SECONDS = 15
"""For how long it is known which run had a conversation last. Longer than it takes to read a conversation and to have
its lock."""
MEMORY_SECONDS = 3600
"""How long a run that changed hands is remembered, for the worker that lost it and may wake up."""
ANSWER_SECONDS = 5.0
"""Longer than the client of Redis waits for an answer, twice; that a renewal took longer means that we did not run."""
RENEWED_AT_ONCE = 500
"""Runs in one question to Redis, which answers nobody else meanwhile: some 4 ms on a slow machine."""
RELEASED_AT_ONCE = 256
"""Each has a connection to Redis. With thousands that end together everybody else would find none."""
RELEASE_SECONDS = 2.0
"""How long the end of a run waits for Redis, as long as for its saving; after that the release happens behind its back.
The client is told of the end only then: it may send its next message the moment it reads that."""

_CLAIM_MS = round(CLAIM_SECONDS * 1000)

_Argument = str | bytes | int

log = get_logger(__name__)


class RunLocks:
    """Takes, renews and releases the locks of this worker's runs. What others lost: `LostRuns`.

    `unstored` gives the runs that have ended and whose end is not stored yet, `is_unstored` whether one is of them:
    their conversations are free, but they are vouched for, because whoever finds a run that nobody vouches for takes it
    for lost.
    """

    def __init__(
        self,
        redis: "Redis",
        worker_id: str,
        table: RunTable,
        unstored: Callable[[], Collection[Claim]] = tuple,
        is_unstored: Callable[[UUID], bool] = lambda _: False,
    ) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._table = table
        self._unstored = unstored
        self._is_unstored = is_unstored
        self._acquire = redis.register_script(ACQUIRE)
        self._renew = redis.register_script(RENEW)
        self._release = redis.register_script(RELEASE)
        self._surrender = redis.register_script(SURRENDER)
        self._none_renewing = asyncio.Event()
        self._none_renewing.set()
        self._let_go: set[UUID] = set()
        self._releasing = asyncio.Semaphore(RELEASED_AT_ONCE)
        self._renewals = 0
        self._held: dict[UUID, Held] = {}
        self._ending: dict[UUID, Held] = {}
        self._lost_at_start: set[UUID] = set()
        self._unreleased: dict[UUID, tuple[UUID, UUID, int, bytes | None]] = {}
        self._renewed_at = float("-inf")
        self._ticked_at = float("inf")
        self._is_cut_off = False
        self._stood_still = False
        self.on_renewal: Callable[[], None] = lambda: None
        """Called after every attempt to renew."""
        self.on_lost: Callable[[UUID], None] = lambda _: None
        """Called with each run that turns out to be another worker's, whether it has ended here or not."""

    def is_certain(self) -> bool:
        """Whether nobody can have taken our runs over. Not when the last renewal is so long ago that somebody may have,
        until another one says no."""
        return asyncio.get_running_loop().time() - self._renewed_at < CLAIM_SECONDS - RENEW_SECONDS

    async def acquire(self, org_id: UUID, conversation_id: UUID, run_id: UUID) -> UUID | None:
        """From here on the run is vouched for, however long its start takes. Returns the run that had the conversation
        last, if that ended within `ENDED_SECONDS`. Raises ConversationBusy naming the run that holds it."""
        held = self._held[run_id] = Held(org_id, conversation_id, run_id)
        words = held.words
        args: list[_Argument] = [words.run_id, LOCK_SECONDS, words.member, _CLAIM_MS, self._worker_id]
        try:
            keys: list[str | bytes] = [words.lock, CLAIMS, words.record, _ended_key(org_id, conversation_id)]
            holder, ended = await self._acquire(keys=keys, args=args)
        except BaseException:
            # It may have been taken, and nobody will give it back: it runs out.
            del self._held[run_id]
            raise
        # It is ours already when the first answer was lost and the client of Redis asked again.
        if holder is not None and holder != words.run_id:
            del self._held[run_id]
            raise ConversationBusy(f"run {holder.decode()} is in progress in this conversation")
        return UUID(ended.decode()) if ended is not None else None

    async def release(
        self, org_id: UUID, conversation_id: UUID, run_id: UUID, epoch: int = 1, *, usage_entry: bytes | None = None
    ) -> None:
        """Give the lock back and, in the same step, have counted what the run used; when Redis does not answer at once,
        later. Never raises."""
        self._held.pop(run_id, None)
        self._ending.pop(run_id, None)
        self._lost_at_start.discard(run_id)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._release_now(org_id, conversation_id, run_id, epoch, usage_entry)
        except (RedisError, TimeoutError):
            self._unreleased[run_id] = org_id, conversation_id, epoch, usage_entry

    async def tell(self, usage_entry: bytes) -> None:
        """Have counted what a run used until now that goes on elsewhere. Never raises."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._redis.xadd(STREAM, {FIELD: usage_entry})
        except (RedisError, TimeoutError) as error:
            log.error("usage_of_a_handed_over_run_lost", reason=type(error).__name__)

    async def is_alive(self, org_id: UUID, run_id: UUID) -> bool:
        """Whether some worker drives the run, keeps its end to store it, or will take it over in a moment."""
        return await self._redis.zscore(CLAIMS, member_of(org_id, run_id)) is not None

    async def is_ours(self, run: Run) -> bool:
        """Whether nobody has taken the run over. Asks Redis only when we may have been away long enough for that."""
        if run.is_lost or run.run_id in self._lost_at_start:
            return False
        vouched_at = max(self._renewed_at, run.claimed_at)
        if asyncio.get_running_loop().time() - vouched_at < CLAIM_SECONDS - RENEW_SECONDS:
            return True
        while True:
            try:
                epoch = await cast("Awaitable[bytes | None]", self._redis.hget(record_key(run.run_id), "epoch"))
            except RedisError:
                # Without Redis nobody takes anything over; but somebody may have before it went.
                if not self._stood_still:
                    return True
                await asyncio.sleep(RENEW_SECONDS)
            else:
                return epoch is None or int(epoch) == run.epoch

    def has(self, run_id: UUID) -> bool:
        """Whether this worker vouches for the run, or is about to again."""
        return run_id in self._held or run_id in self._ending or self._table.find(run_id) is not None

    @contextmanager
    def vouching(self, lost: LostRun, conversation_id: UUID) -> Iterator[None]:
        """What was taken over stays ours while it is ended or begun anew, or until it is released."""
        self._ending[lost.run_id] = Held(lost.org_id, conversation_id, lost.run_id, lost.epoch)
        try:
            yield
        finally:
            self._ending.pop(lost.run_id, None)

    def letting_go(self, run: Run) -> tuple[bytes, ...]:
        """The command that gives a run to whoever takes it first. It must follow the last event that was told of it.
        From now on it is not vouched for any more."""
        self._held.pop(run.run_id, None)
        self._let_go.add(run.run_id)
        return b"ZADD", CLAIMS.encode(), b"XX", b"0", member_of(run.org_id, run.run_id).encode()

    async def refuse(self, run_id: UUID) -> None:
        """Nobody is to begin this run anew: its caller is told that it did not begin. Never raises."""
        with suppress(RedisError):
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(record_key(run_id), "refused", 1)
                pipe.expire(record_key(run_id), MEMORY_SECONDS)
                await pipe.execute()

    async def surrender(self, run: Run) -> None:
        """Have a run that is not ours any more looked for once more: whoever took it may not have found it stored yet.
        Never raises."""
        self._lost_at_start.discard(run.run_id)
        with suppress(RedisError):
            await self._surrender(keys=[CLAIMS], args=[member_of(run.org_id, run.run_id)])

    async def run(self) -> None:
        """Release what could not be released, renew what runs, until cancelled."""
        loop = asyncio.get_running_loop()
        self._renewed_at = self._ticked_at = loop.time()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked_at = loop.time()
            # Redis may take its time to answer; that a sleep is late means that this process did not run.
            self._stood_still |= asked_at - self._ticked_at > CLAIM_SECONDS - RENEW_SECONDS
            try:
                # First, because what was lost among them is not to be taken for certain by the renewal.
                for run_id, (org_id, conversation_id, epoch, entry) in list(self._unreleased.items()):
                    await self._release_now(org_id, conversation_id, run_id, epoch, entry)
                    self._unreleased.pop(run_id, None)
                held = [*self._held.values(), *self._ending.values()]
                await self._renew_all([*held, *self._taken_over(), *self._unstored()])
                self._is_cut_off = self._stood_still = False
            except RedisError as error:
                self._is_cut_off = True
                log.warning("run_locks_not_renewed", reason=type(error).__name__, runs=len(self._table))
            self._ticked_at = loop.time()
            self._stood_still |= self._is_cut_off and self._ticked_at - asked_at > ANSWER_SECONDS
            self.on_renewal()

    def _taken_over(self) -> list[Run]:
        """Runs of ours that began elsewhere: their locks were not taken here."""
        return [run for run in self._table.all() if run.run_id not in self._held]

    async def _release_now(
        self, org_id: UUID, conversation_id: UUID, run_id: UUID, epoch: int, usage_entry: bytes | None
    ) -> None:
        is_over = not self._is_unstored(run_id)
        args: list[_Argument] = [str(run_id), member_of(org_id, run_id), epoch, int(is_over), MEMORY_SECONDS]
        args += usage_entry or b"", FIELD, ENDED_SECONDS
        keys = [f"run_lock:{org_id}:{conversation_id}", CLAIMS, record_key(run_id), STREAM]
        keys.append(_ended_key(org_id, conversation_id))
        async with self._releasing:
            # A renewal that is on its way would take for lost, and set again, what was given back before it.
            await self._none_renewing.wait()
            self._let_go.add(run_id)
            if not await self._release(keys=keys, args=args):
                self.on_lost(run_id)

    async def _renew_all(self, claims: Sequence[Claim]) -> None:
        """A part at a time: Redis and this loop have others to serve, and whoever ends meanwhile waits for one only."""
        asked_at, lost = asyncio.get_running_loop().time(), set[UUID]()
        for number, first in enumerate(range(0, len(claims), RENEWED_AT_ONCE), self._renewals):
            part = [claim for claim in claims[first : first + RENEWED_AT_ONCE] if claim.run_id not in self._let_go]
            if not part:
                continue
            self._none_renewing.clear()
            try:
                lost |= await self._renew_some(part, locks_too=number % LOCKS_EVERY == 0)
            finally:
                self._none_renewing.set()
        self._let_go.clear()
        self._renewals += 1
        runs = [run for run_id in lost if (run := self._table.find(run_id))]
        for run_id in lost:
            self.on_lost(run_id)
            if self._held.pop(run_id, None) and self._table.find(run_id) is None:
                # Its turn is still being stored: whoever starts it learns of this when it asks whether it is ours.
                self._lost_at_start.add(run_id)
        for run in runs:
            log.error("run_was_taken_over", run_id=str(run.run_id), org_id=str(run.org_id))
            run.lose()
        # Only now: what is left is ours, and may be shown.
        self._renewed_at = asked_at
        for run in runs:
            await self.surrender(run)

    async def _renew_some(self, claims: Sequence[Claim], *, locks_too: bool) -> set[UUID]:
        """Those of the claims that somebody else has. Locks that are gone are taken again in any case. Raises
        RedisError."""
        keys: list[str | bytes] = [CLAIMS]
        args: list[_Argument] = [_CLAIM_MS, LOCK_SECONDS, self._worker_id, int(locks_too)]
        for claim in claims:
            lock, record, *words = claim.words if isinstance(claim, Held) else Words.of(claim)
            keys += lock, record
            args += words
        return {UUID(run_id.decode()) for run_id in await self._renew(keys=keys, args=args)}


def _ended_key(org_id: UUID, conversation_id: UUID) -> str:
    return f"run_ended:{org_id}:{conversation_id}"
