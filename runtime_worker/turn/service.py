"""Starting a turn: every check in the contract's order, then what must be stored before a run, then the run."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, ConversationStore, Message, RunRecord, Thread, TurnStart
from runtime_worker.engines.base import RunRequest
from runtime_worker.pool.entry import Entry, Lease
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.stream.journal import EventJournal
from runtime_worker.stream.run_stream import RunStream
from runtime_worker.stream.story import Story
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.claims import LostRun
from runtime_worker.turn.execution import Execution
from runtime_worker.turn.keeping import keep_anchor
from runtime_worker.turn.listing import NewConversations
from runtime_worker.turn.openings import after_what_was_brought, handed_over, new_conversation
from runtime_worker.turn.recall import Recollection, recollect
from runtime_worker.turn.request import TurnRequest
from runtime_worker.turn.rules import require_acceptable, require_priced
from runtime_worker.turn.run import Run, RunTable
from runtime_worker.turn.run_locks import RunLocks
from runtime_worker.turn.threads import Threads
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.ids import new_id
from shared.limits import Admission, Charge
from shared.limits.limiter import Limiter
from shared.security.grants import Grant


class TurnService:
    """Starts runs. Once `start` returned, the run belongs to the table and needs no caller."""

    def __init__(
        self,
        pool: OrchestratorPool,
        store: ConversationStore,
        locks: RunLocks,
        table: RunTable,
        backlog: SaveBacklog,
        execution: Execution,
        journal: EventJournal,
        limiter: Limiter,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._store = store
        self._locks = locks
        self._table = table
        self._backlog = backlog
        self._execution = execution
        self._journal = journal
        self._limiter = limiter
        self._clock = clock
        self._new_conversations = NewConversations(store)
        self._threads = Threads(store, locks, table, backlog, clock)

    async def start(self, grant: Grant, request: TurnRequest) -> Run:
        """The caller's session, organization and permission were checked before; from here on:

        instance, status, limits, conversation, one run at a time, and only then the pool. Raises what each of them
        raises.
        """
        with self._table.admission():
            grant.require_key_use()
            entry = await self._pool.require(request.instance_id, request.org_id)
            if request.admission is not None:
                # Whoever has asked the limits gives back what comes to nothing.
                return await self._admitted(grant, request, request.admission, entry)
            admission = await self._limiter.admit(grant, Charge("chat", request.run_id or new_id()))
            try:
                return await self._admitted(grant, request, admission, entry)
            except BaseException:
                await asyncio.shield(self._execution.give_back(admission))
                raise

    async def _admitted(self, grant: Grant, request: TurnRequest, admission: Admission, entry: Entry) -> Run:
        admission.require()
        run_id = request.run_id or admission.run_id or new_id()
        conversation_id = request.conversation_id
        if conversation_id is None:
            # Nobody else can know the id, so the lock is there to be had: it is taken while the turn is stored.
            return await self._start(grant.user_id, request, admission, run_id, new_id(), None)
        thread = await self._threads.have(request, conversation_id, grant.user_id, run_id, window=_window(entry))
        try:
            return await self._start(grant.user_id, request, admission, run_id, conversation_id, thread)
        except BaseException:
            await asyncio.shield(self._locks.release(request.org_id, conversation_id, run_id))
            raise

    async def _start(
        self,
        user_id: UUID,
        request: TurnRequest,
        admission: Admission,
        run_id: UUID,
        conversation_id: UUID,
        thread: Thread | None,
    ) -> Run:
        if len(self._backlog):
            # MongoDB was away a moment ago: no model is asked for a turn that cannot be stored.
            await self._store.check()
        lease = await self._pool.lease(request.instance_id, request.org_id)
        is_moved = thread is not None and thread.conversation.instance_id != request.instance_id
        if thread is not None and is_moved:
            thread = handed_over(thread, request.instance_id)
        conversation = thread.conversation if thread else None
        now = self._clock.now()
        message = Message(
            message_id=new_id(),
            conversation_id=conversation_id,
            run_id=run_id,
            role="user",
            content=request.message,
            created_at=now,
        )
        dialect = request.dialect(run_id, now) if request.dialect else None
        log = self._journal.begin(request.org_id, run_id)
        run = Run(
            run_id=run_id,
            org_id=request.org_id,
            user_id=user_id,
            conversation_id=conversation_id,
            instance_id=request.instance_id,
            config_hash=lease.snapshot.config_hash,
            started_at=now,
            stream=RunStream(run_id, is_followed=request.is_followed, log=log, dialect=dialect),
            on_disconnect=request.on_disconnect or lease.snapshot.chat.on_disconnect,
            mode=lease.snapshot.mode,
            last_agent=conversation.last_agent if conversation else None,
            resource_id=request.resource_id,
            prices=lease.snapshot.prices,
            api_key_id=request.api_key_id,
            central_id=request.central_id,
        )
        try:
            require_acceptable(request, lease.snapshot, conversation)
            if admission.has_budget:
                require_priced(lease.snapshot)
            if request.brought and conversation is None:
                message = after_what_was_brought(request.brought, message, lease)
            run_request, recollection = await self._recalled(run, message, lease, thread)
            run.answer_id = new_id()
        except BaseException:
            lease.release()
            raise
        run.stream.metadata(
            {
                "run_id": run_id,
                "conversation_id": conversation_id,
                "instance_id": request.instance_id,
                "config_hash": run.config_hash,
            }
        )
        self._execution.hold(run, admission)
        self._table.start(run, self._execution.launch(run, lease, run_request, recollection.overflow))
        try:
            continued = recollection.conversation
            await self._record(run, message, continued, is_new=conversation is None, is_moved=is_moved)
        except BaseException:
            run.refuse()
            raise
        if conversation is None:
            self._new_conversations.begun_by(run, recollection.conversation)
        self._table.record(run)
        if not await self._locks.is_ours(run):
            # We stood still while it was being stored. Whoever took it may have found nothing to take.
            run.lose()
            await self._locks.surrender(run)
        return run

    async def restart(self, lost: LostRun, record: RunRecord, story: Story) -> None:
        """Begin a run anew that another worker had begun and shown nothing of.

        Raises Conflict when it would run on another configuration than it was announced with, and what a start raises.
        """
        with self._table.admission():
            message = await self._store.find_opening(lost.org_id, lost.run_id)
            conversation = await self._store.find_conversation(lost.org_id, record.conversation_id)
            if message is None or conversation is None:
                raise NotFound("the conversation is gone")
            lease = await self._pool.lease(record.instance_id, lost.org_id)
            try:
                if lease.snapshot.config_hash != record.config_hash:
                    raise Conflict("the orchestrator was changed since the run began")
                log = self._journal.begin(lost.org_id, lost.run_id, lost.epoch)
                run = Run(
                    run_id=lost.run_id,
                    org_id=lost.org_id,
                    user_id=record.user_id,
                    conversation_id=record.conversation_id,
                    instance_id=record.instance_id,
                    config_hash=record.config_hash,
                    started_at=record.started_at,
                    stream=RunStream(lost.run_id, is_followed=False, log=log, after=story),
                    mode=lease.snapshot.mode,
                    last_agent=conversation.last_agent,
                    resource_id=record.resource_id,
                    answer_id=record.answer_id,
                    epoch=lost.epoch,
                    prices=lease.snapshot.prices,
                    api_key_id=record.api_key_id,
                )
                thread = Thread(conversation=conversation)
                run_request, recollection = await self._recalled(run, message, lease, thread)
            except BaseException:
                lease.release()
                raise
            run.stream.close_open("the worker was lost")
            self._execution.hold(run, None)
            self._table.start(run, self._execution.launch(run, lease, run_request, recollection.overflow))
            self._table.record(run)

    async def _recalled(
        self, run: Run, message: Message, lease: Lease, thread: Thread | None
    ) -> tuple[RunRequest, Recollection]:
        """What the engine gets: the message, and what the model gets to see with it."""
        limits = lease.config.mode_config
        if thread is None:
            recollection = Recollection(new_conversation(run, message))
        else:
            recollection = await recollect(self._store, run.org_id, thread, message, limits)
        conversation = recollection.conversation
        request = RunRequest(
            run_id=run.run_id,
            conversation_id=run.conversation_id,
            org_id=run.org_id,
            user_id=run.user_id,
            message=message.content,
            history=(*recollection.history, *message.tool_messages),
            resource_id=run.resource_id,
            deadline=asyncio.get_running_loop().time() + limits.run_timeout,
            anchor=msgspec.json.decode(conversation.anchor) if conversation.anchor else None,
            last_agent=conversation.last_agent,
            calls=run.engine_calls,
            on_anchor=partial(keep_anchor, run),
        )
        return request, recollection

    async def _record(
        self, run: Run, message: Message, conversation: Conversation, *, is_new: bool, is_moved: bool
    ) -> None:
        """Store what has to be there before anything of the run can be seen: its message, and itself."""
        record = run.record(last_seq=0)
        start = TurnStart(conversation=conversation, is_new=is_new, message=message, run=record, is_moved=is_moved)
        steps: list[Coroutine[Any, Any, UUID | None]] = [self._store.begin_turn(run.org_id, start)]
        if is_new:
            steps.append(self._locks.acquire(run.org_id, run.conversation_id, run.run_id))
        outcomes = await asyncio.gather(*steps, return_exceptions=True)
        for failure in outcomes:
            if isinstance(failure, BaseException):
                # Also when the store did not answer: it may have taken the turn all the same.
                self._backlog.withdraw(run.org_id, start)
                await self._locks.refuse(run.run_id)
                raise failure


def _window(entry: Entry) -> int:
    """How many earlier messages a run of it gets to see, as far as that is known before it is built."""
    return entry.current.config.mode_config.message_context_window if entry.current else 0
