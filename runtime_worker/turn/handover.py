"""What a worker that leaves does with the runs it cannot wait for: others go on with them, as with those of a lost one.

A run's claim is let go of behind the last event that was told of it, so another worker has it within a moment: the run
ends there as failed, with what was shown stored as a partial answer, or begins anew when nothing was shown and no tool
called. Whoever listens here is told how it goes on for as long as this process can stay, and can ask any worker after
that. Where nobody is left who could go on, the runs end here.
"""

import asyncio
from collections.abc import Callable

from redis.exceptions import RedisError

from runtime_worker.conversations.base import RunRecord
from runtime_worker.stream.journal import EventJournal
from runtime_worker.turn.replay import RunReplays
from runtime_worker.turn.run import Run, RunTable
from runtime_worker.turn.run_locks import RunLocks
from shared.errors import DomainError, WorkerLost
from shared.logging import get_logger

FOLLOW_SECONDS = 5.0
"""How long a leaving worker shows what became of a run: ten times what another one needs to take it and to end it."""

log = get_logger(__name__)


class Handover:
    """`has_others` tells whether another worker is there that stays."""

    def __init__(
        self,
        table: RunTable,
        locks: RunLocks,
        journal: EventJournal,
        replays: RunReplays,
        has_others: Callable[[], bool],
    ) -> None:
        self._table = table
        self._locks = locks
        self._journal = journal
        self._replays = replays
        self._has_others = has_others

    async def run(self) -> None:
        """Give all runs away, and show their clients how they go on."""
        runs = self._table.all()
        if not runs:
            return
        can_hand_over = self._has_others() and self._journal.is_connected
        log.warning("runs_left_over", runs=len(runs), handed_over=can_hand_over)
        for run in runs:
            if can_hand_over:
                run.hand_over()
            else:
                run.fail(WorkerLost())
        await asyncio.gather(*(self._see_off(run) for run in runs))

    async def end_of(self, run: Run) -> tuple[RunRecord, str]:
        """How a run that was handed over has ended, and its answer.

        Raises WorkerLost when that takes too long: it goes on, and a caller who was told to try elsewhere would begin
        it a second time.
        """
        try:
            async with asyncio.timeout(FOLLOW_SECONDS):
                return await self._replays.end_of(run.org_id, run.run_id, user_id=run.user_id)
        except TimeoutError:
            raise WorkerLost from None

    async def _see_off(self, run: Run) -> None:
        await run.wait()
        if not run.is_handed_over:
            return
        self._journal.write_last(*self._locks.letting_go(run))
        try:
            async with asyncio.timeout(FOLLOW_SECONDS):
                await self._show_rest(run)
        except TimeoutError:
            log.info("run_goes_on_elsewhere", run_id=str(run.run_id), org_id=str(run.org_id))
        except (DomainError, RedisError) as error:
            log.warning("run_not_followed", run_id=str(run.run_id), reason=type(error).__name__)
        finally:
            run.stream.close()

    async def _show_rest(self, run: Run) -> None:
        after = run.stream.last_seq
        async for events in await self._replays.open(run.org_id, run.run_id, user_id=None, after_seq=after):
            run.stream.pass_on(events)
