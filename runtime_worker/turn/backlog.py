"""Ends of turns that MongoDB did not take at once: kept, tried again, and waited for before the process leaves.

And beginnings that it may have taken although nobody was told so: they are taken back.
"""

import asyncio
from collections import deque
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import ConversationStore, TurnEnd, TurnStart
from shared.errors import StoreUnavailable
from shared.logging import get_logger

SAVE_SECONDS = 2.0
"""How long the end of a run waits for its own saving before the client is told that it is not saved yet."""

RETRY_SECONDS = 0.5
LATE_SECONDS = 5.0
"""How long after MongoDB is there again something may still arrive that was sent before."""
MAX_WAITING = 20_000
"""Answers are small; so many are hours of an outage at full load, or all runs of a worker that end at once. Beyond it
the oldest are given up, loudly."""

log = get_logger(__name__)


class Unstored(msgspec.Struct, frozen=True):
    """A run that has ended and is not stored yet."""

    org_id: UUID
    conversation_id: UUID
    run_id: UUID
    epoch: int


class SaveBacklog:
    """`save` now, or else in the background and in order."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._waiting: deque[tuple[UUID, TurnEnd | TurnStart]] = deque()
        self._run_ids: set[UUID] = set()
        self._withdrawn: set[UUID] = set()
        self._has_some = asyncio.Event()
        self._flushing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def claims(self) -> list["Unstored"]:
        """The runs whose end is kept here, which this worker goes on vouching for."""
        return [
            Unstored(org_id, end.run.conversation_id, end.run.run_id, end.run.epoch) for org_id, end in self._waiting
        ]

    def has(self, run_id: UUID) -> bool:
        """Whether something of this run is kept here."""
        return run_id in self._run_ids

    async def save(self, org_id: UUID, turn: TurnEnd) -> bool:
        """Whether it is stored now. If not, it is kept and stored as soon as possible. Never raises."""
        if not self._waiting:
            try:
                async with asyncio.timeout(SAVE_SECONDS):
                    await self._store.end_turn(org_id, turn)
            except (StoreUnavailable, TimeoutError):
                log.warning("save_postponed", org_id=str(org_id), run_id=str(turn.run.run_id))
            except Exception:  # Whatever the driver makes of it, what the user saw is worth another try.
                log.exception("save_failed", org_id=str(org_id), run_id=str(turn.run.run_id))
            else:
                return True
        self._keep(org_id, turn)
        return False

    def withdraw(self, org_id: UUID, turn: TurnStart) -> None:
        """Have a turn removed that was refused, as soon as possible, whether it was stored or not. Never raises."""
        self._keep(org_id, turn)

    def forget(self, org_id: UUID) -> None:
        """Give up what waits for an organization that is purged."""
        self._waiting = deque((owner, end) for owner, end in self._waiting if owner != org_id)
        self._run_ids = {end.run.run_id for _, end in self._waiting}

    async def settle(self, conversation_id: UUID) -> bool:
        """Before a next turn: have this conversation's earlier ends stored, so that its history is whole. Whether there
        were any."""
        if not any(turn.run.conversation_id == conversation_id for _, turn in self._waiting):
            return False
        await self._flush()
        return True

    async def run(self) -> None:
        """Try again and again, until cancelled."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(RETRY_SECONDS)
            await self._flush_quietly()

    async def drain(self, timeout_seconds: float) -> None:
        """Last attempts before leaving; what still cannot be stored is logged by run."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self._waiting and asyncio.get_running_loop().time() < deadline:
            await self._flush_quietly()
            if self._waiting:
                await asyncio.sleep(RETRY_SECONDS)
        for org_id, turn in self._waiting:
            _tell_lost(org_id, turn)

    def _keep(self, org_id: UUID, turn: TurnEnd | TurnStart) -> None:
        self._waiting.append((org_id, turn))
        self._run_ids.add(turn.run.run_id)
        if len(self._waiting) > MAX_WAITING:
            _tell_lost(*self._oldest())
        self._has_some.set()

    def _oldest(self) -> tuple[UUID, TurnEnd | TurnStart]:
        """Which is kept no longer."""
        org_id, turn = self._waiting.popleft()
        self._run_ids.discard(turn.run.run_id)
        return org_id, turn

    async def _store_one(self, org_id: UUID, turn: TurnEnd | TurnStart) -> None:
        if isinstance(turn, TurnEnd):
            await self._store.end_turn(org_id, turn)
            log.info("save_caught_up", org_id=str(org_id), run_id=str(turn.run.run_id))
        elif await self._store.withdraw_turn(org_id, turn.run.run_id):
            log.info("turn_withdrawn", org_id=str(org_id), run_id=str(turn.run.run_id))
        elif turn.run.run_id not in self._withdrawn:
            # It was not there, or not yet.
            self._withdrawn.add(turn.run.run_id)
            asyncio.get_running_loop().call_later(LATE_SECONDS, self._keep, org_id, turn)
        else:
            self._withdrawn.discard(turn.run.run_id)

    async def _flush_quietly(self) -> None:
        try:
            await self._flush()
        except StoreUnavailable:
            return
        except Exception:  # One that can never be stored must not hold up those behind it.
            org_id, turn = self._oldest()
            log.exception("answer_lost", org_id=str(org_id), run_id=str(turn.run.run_id))

    async def _flush(self) -> None:
        """Store everything that waits, oldest first. Raises StoreUnavailable."""
        async with self._flushing:
            while self._waiting:
                oldest = self._waiting[0]
                org_id, turn = oldest
                await self._store_one(org_id, turn)
                # It may have been given up meanwhile, to make room.
                if self._waiting and self._waiting[0] is oldest:
                    self._oldest()
            self._has_some.clear()


def _tell_lost(org_id: UUID, turn: TurnEnd | TurnStart) -> None:
    event = "answer_lost" if isinstance(turn, TurnEnd) else "refused_turn_not_withdrawn"
    log.error(event, org_id=str(org_id), run_id=str(turn.run.run_id))
