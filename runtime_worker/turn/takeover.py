"""Ending what other workers left behind: a run whose worker is gone is finished by whichever worker claims it first.

Nobody waits for ever: the conversation is free again, the client gets a last event, and what it was shown of an answer
is stored. A run of which nothing was shown and that has called no tool begins anew instead, once, and nobody notices.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from runtime_worker.conversations.base import ConversationStore, Message, RunError, RunRecord, TurnEnd
from runtime_worker.stream.journal import EventJournal
from runtime_worker.stream.run_stream import RunStream
from runtime_worker.stream.spool import EventSpool, RunEpoch, Spooled, behind
from runtime_worker.stream.story import Story, ToldEvent, read_entries, told
from runtime_worker.turn.accounting import entry_of_lost
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.claims import LostRun
from runtime_worker.turn.endings import ended_as_told, last_event
from runtime_worker.turn.execution import estimate, token_usage
from runtime_worker.turn.lost_runs import MAX_LOST, LostRuns
from runtime_worker.turn.reservations import Reservations
from runtime_worker.turn.run_locks import RunLocks
from shared.clock import Clock
from shared.errors import DomainError, WorkerLost
from shared.logging import get_logger

SWEEP_SECONDS = 0.25
LAST_EPOCH_TO_RESTART = 2
"""A run that lost two workers may be what kills them."""

RESTART_SECONDS = 5.0
"""How long beginning anew may take, the building of its instance included. Then its client is told to try again."""

Restart = Callable[[LostRun, RunRecord, Story], Awaitable[None]]
"""Begins a run anew in this worker. Raises DomainError when that cannot be done."""

log = get_logger(__name__)


class Takeover:
    """Looks for lost runs until cancelled. One that cannot be ended now is looked for again when its claim ran out."""

    def __init__(
        self,
        redis: "Redis",
        lost_runs: LostRuns,
        locks: RunLocks,
        reservations: Reservations,
        store: ConversationStore,
        spool: EventSpool,
        backlog: SaveBacklog,
        journal: EventJournal,
        restart: Restart,
        is_leaving: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._redis = redis
        self._lost_runs = lost_runs
        self._locks = locks
        self._reservations = reservations
        self._store = store
        self._spool = spool
        self._backlog = backlog
        self._journal = journal
        self._restart = restart
        self._is_leaving = is_leaving
        self._clock = clock

    async def run(self) -> None:
        self._lost_runs.begin()
        ending = set[asyncio.Task[None]]()
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                if self._is_leaving():
                    # Whoever stays can begin a run anew, and gets those that are handed over here.
                    continue
                try:
                    lost = await self._lost_runs.take(MAX_LOST - len(ending))
                except RedisError as error:
                    log.warning("lost_runs_not_looked_for", reason=type(error).__name__)
                    continue
                # One that takes its time, because a store does, keeps nobody from looking again.
                for run in lost:
                    task = group.create_task(self._end(run))
                    ending.add(task)
                    task.add_done_callback(ending.discard)

    async def _end(self, lost: LostRun) -> None:
        try:
            if lost.is_refused:
                # Its worker went before it could take it back.
                await self._store.withdraw_turn(lost.org_id, lost.run_id)
                await self._lost_runs.forget(lost)
                return
            record = await self._store.find_run(lost.org_id, lost.run_id)
            if record is None:
                # Its worker went while the turn was being stored: nobody was told of it.
                await self._lost_runs.forget(lost)
                await self._reservations.settle(lost.org_id, lost.run_id, None, None)
                return
            with self._locks.vouching(lost, record.conversation_id):
                await self._go_on(lost, record)
        except (DomainError, RedisError) as error:
            log.warning("takeover_postponed", run_id=str(lost.run_id), reason=type(error).__name__)
        except Exception:  # One run that cannot be ended must not keep the others from it.
            log.exception("takeover_failed", run_id=str(lost.run_id), org_id=str(lost.org_id))

    async def _go_on(self, lost: LostRun, record: RunRecord) -> None:
        # A conversation that began with the run may have no row of its own yet; asking for it makes one.
        await self._store.find_conversation(lost.org_id, record.conversation_id)
        ours = RunEpoch(lost.run_id, lost.epoch)
        spooled = await self._spool.close(lost.org_id, ours)
        await self._end_or_begin_anew(lost, record, await self._story(lost, spooled))
        if spooled:
            await self._spool.forget(lost.org_id, [ours])

    async def _end_or_begin_anew(self, lost: LostRun, record: RunRecord, story: Story) -> None:
        if record.status not in ("queued", "running"):
            await self._tell_end(lost, record, story)
            return
        if story.end is not None:
            await self._store_as_told(lost, record, story, story.end)
            return
        may_begin_anew = not story.has_acted and lost.epoch <= LAST_EPOCH_TO_RESTART
        if not (may_begin_anew and await self._began_anew(lost, record, story)):
            await self._fail(lost, record, story)

    async def _story(self, lost: LostRun, spooled: Sequence[Spooled]) -> Story:
        """What was told of it, by whoever had it. Where some of it reached the spool alone, Redis gets it now, before
        all that follows."""
        entries = await read_entries(self._redis, lost.run_id)
        story = told(entries)
        if rest := behind(spooled, story.last_seq):
            run_log = self._journal.begin(lost.org_id, lost.run_id, lost.epoch)
            run_log.open()
            for entry in rest:
                (event,) = entry.events
                run_log.add(event.seq, event.raw, is_last=entry.is_last)
            story = told([*entries, *rest])
        return story

    async def _began_anew(self, lost: LostRun, record: RunRecord, story: Story) -> bool:
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                await self._restart(lost, record, story)
        except (DomainError, TimeoutError) as error:
            log.info("run_not_restarted", run_id=str(lost.run_id), code=getattr(error, "code", None))
            return False
        log.warning("run_restarted", run_id=str(lost.run_id), org_id=str(lost.org_id), epoch=lost.epoch)
        return True

    async def _fail(self, lost: LostRun, record: RunRecord, story: Story) -> None:
        stream = self._stream(lost, story)
        stream.close_open("the worker was lost")
        error = WorkerLost()
        ended = msgspec.structs.replace(
            record,
            status="failed",
            ended_at=self._clock.now(),
            error=RunError(error.code, error.detail, error.retryable),
            usage=token_usage(estimate(story.text)),
            last_seq=stream.last_seq + 1,
            message_id=record.answer_id if story.text else None,
            epoch=lost.epoch,
        )
        ended = msgspec.structs.replace(ended, usage_entry=entry_of_lost(lost.org_id, ended))
        saved = await self._backlog.save(lost.org_id, self._turn_end(ended, story))
        await self._over(lost, ended, stream, saved=saved)
        log.warning("run_taken_over", run_id=str(lost.run_id), org_id=str(lost.org_id), shown_chars=len(story.text))

    async def _store_as_told(self, lost: LostRun, record: RunRecord, story: Story, end: ToldEvent) -> None:
        """Its worker had told the end while it could not be stored, and went before it could."""
        ended = msgspec.structs.replace(ended_as_told(record, story, end, self._clock.now()), epoch=lost.epoch)
        ended = msgspec.structs.replace(ended, usage_entry=entry_of_lost(lost.org_id, ended))
        await self._backlog.save(lost.org_id, self._turn_end(ended, story))
        await self._release(lost, ended)
        log.warning("run_stored_as_told", run_id=str(lost.run_id), org_id=str(lost.org_id), status=ended.status)

    def _turn_end(self, ended: RunRecord, story: Story) -> TurnEnd:
        """A run with what was shown of its answer."""
        answer = None
        if ended.message_id is not None:
            answer = Message(
                message_id=ended.message_id,
                conversation_id=ended.conversation_id,
                run_id=ended.run_id,
                role="assistant",
                content=story.text,
                created_at=ended.ended_at or self._clock.now(),
                usage=ended.usage,
                status="complete" if ended.status == "completed" else "partial",
            )
        return TurnEnd(run=ended, answer=answer)

    async def _tell_end(self, lost: LostRun, record: RunRecord, story: Story) -> None:
        """Its worker had stored the end and could not tell it, or had told it and could not give its claim back."""
        if story.is_over:
            await self._release(lost, record)
            return
        stream = self._stream(lost, story)
        stream.close_open("the worker was lost")
        answer = await self._store.find_answer(lost.org_id, record)
        if answer is not None and answer.content.startswith(story.text):
            stream.message(answer.content[len(story.text) :], story.last_node)
        await self._over(lost, record, stream, saved=True)

    async def _over(self, lost: LostRun, record: RunRecord, stream: RunStream, *, saved: bool) -> None:
        await self._release(lost, record)
        stream.end(*last_event(record, saved=saved))

    async def _release(self, lost: LostRun, record: RunRecord) -> None:
        """Its worker may have told of what it used or not; told twice, it is counted once. What its models answered is
        known to the lost worker alone, so it used what it had set aside, unless that is settled."""
        await asyncio.gather(
            self._locks.release(
                lost.org_id, record.conversation_id, lost.run_id, lost.epoch, usage_entry=record.usage_entry
            ),
            self._reservations.settle(lost.org_id, lost.run_id, None, None),
        )

    def _stream(self, lost: LostRun, story: Story) -> RunStream:
        """Goes on where the story stopped."""
        stream = RunStream(
            lost.run_id, is_followed=False, log=self._journal.begin(lost.org_id, lost.run_id, lost.epoch), after=story
        )
        stream.record()
        return stream
