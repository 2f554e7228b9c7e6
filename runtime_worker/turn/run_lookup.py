"""Finding and cancelling runs, whichever worker drives them."""

from uuid import UUID

import msgspec

from runtime_worker.conversations.base import ConversationStore, RunError, RunRecord, TurnEnd
from runtime_worker.turn.cancellation import Cancellations
from runtime_worker.turn.run import Run, RunTable
from runtime_worker.turn.run_locks import RunLocks
from shared.clock import Clock
from shared.errors import Conflict, NotFound, WorkerLost


class RunLookup:
    """`user_id` None sees every run of the organization, anybody else only their own."""

    def __init__(
        self, table: RunTable, store: ConversationStore, locks: RunLocks, cancellations: Cancellations, clock: Clock
    ) -> None:
        self._table = table
        self._store = store
        self._locks = locks
        self._cancellations = cancellations
        self._clock = clock

    async def get(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None) -> RunRecord:
        """Raises NotFound. A run that was lost together with every trace of its worker is stored as failed here; any
        other one that was lost is taken over by a worker."""
        run = self._ours(run_id)
        if run is not None and run.org_id == org_id and user_id in (None, run.user_id):
            return run.record()
        # Also for one that is going on here and somebody else's: it is refused as late as one that nobody knows.
        found = await self._store.find_run(org_id, run_id, user_id=user_id)
        if found is None:
            raise NotFound("no such run")
        return await self._lost_or_not(org_id, found)

    async def answer(self, org_id: UUID, record: RunRecord) -> str:
        """What is stored of a run's answer."""
        found = await self._store.find_answer(org_id, record)
        return found.content if found else ""

    async def cancel(self, org_id: UUID, run_id: UUID, *, user_id: UUID | None) -> RunRecord:
        """Raises NotFound, and Conflict for a run that ended by itself."""
        record = await self.get(org_id, run_id, user_id=user_id)
        if record.status in ("completed", "failed"):
            raise Conflict(f"the run has ended as {record.status}")
        if run := self._ours(run_id):
            run.cancel()
        elif record.status != "cancelled":
            await self._cancellations.ask(run_id)
        return record

    def _ours(self, run_id: UUID) -> Run | None:
        """Not one that another worker has taken over and that is just being stopped here: it ends there, and otherwise
        than here."""
        run = self._table.find(run_id)
        return None if run is None or run.is_lost else run

    async def _lost_or_not(self, org_id: UUID, record: RunRecord) -> RunRecord:
        if record.status not in ("queued", "running") or await self._locks.is_alive(org_id, record.run_id):
            return record
        # It may have ended between the two questions; only what is still stored as running was lost.
        again = await self._store.find_run(org_id, record.run_id)
        if again is None or again.status not in ("queued", "running"):
            return again or record
        error = RunError(WorkerLost.code, WorkerLost.title, WorkerLost.retryable)
        lost = msgspec.structs.replace(record, status="failed", ended_at=self._clock.now(), error=error)
        await self._store.end_turn(org_id, TurnEnd(run=lost, answer=None))
        return lost
