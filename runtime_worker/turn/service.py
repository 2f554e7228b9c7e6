"""Starting a turn: every check in the contract's order, then what must be stored before a run, then the run."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, ConversationStore, Message, TurnStart
from runtime_worker.engines.base import RunRequest
from runtime_worker.engines.choices import typed_config
from runtime_worker.pool.entry import Lease
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.stream.run_stream import RunStream
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.execution import Execution
from runtime_worker.turn.history import window
from runtime_worker.turn.run import Run, RunTable
from runtime_worker.turn.run_locks import RunLocks
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.ids import new_id
from shared.security.grants import Grant

TITLE_CHARS = 80


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One message to an instance. `is_followed` says whether the caller wants the events or only the answer."""

    org_id: UUID
    instance_id: UUID
    message: str
    conversation_id: UUID | None
    resource_id: str | None
    is_followed: bool


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
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._store = store
        self._locks = locks
        self._table = table
        self._backlog = backlog
        self._execution = execution
        self._clock = clock

    async def start(self, grant: Grant, request: TurnRequest) -> Run:
        """The caller's session, organization and permission were checked before; from here on:

        instance, status, conversation, one run at a time, and only then the pool. Raises what each of them raises.
        """
        with self._table.admission():
            grant.require_key_use()
            await self._pool.require(request.instance_id, request.org_id)
            conversation = await self._conversation(request, grant.user_id)
            run_id = new_id()
            if conversation is None:
                # Nobody else can know the id, so the lock is there to be had: it is taken while the turn is stored.
                return await self._start(grant.user_id, request, run_id, new_id(), None)
            conversation_id = conversation.conversation_id
            await self._locks.acquire(request.org_id, conversation_id, run_id)
            try:
                return await self._start(grant.user_id, request, run_id, conversation_id, conversation)
            except BaseException:
                await asyncio.shield(self._locks.release(request.org_id, conversation_id, run_id))
                raise

    async def _conversation(self, request: TurnRequest, user_id: UUID) -> Conversation | None:
        """The conversation to go on with, None for a new one. Raises NotFound for another user's."""
        if request.conversation_id is None:
            return None
        found = await self._store.find_conversation(request.org_id, request.conversation_id)
        if found is None or found.user_id != user_id:
            raise NotFound("no such conversation")
        if found.instance_id != request.instance_id:
            raise Conflict("the conversation belongs to another orchestrator")
        await self._backlog.settle(found.conversation_id)
        return found

    async def _start(
        self,
        user_id: UUID,
        request: TurnRequest,
        run_id: UUID,
        conversation_id: UUID,
        conversation: Conversation | None,
    ) -> Run:
        if len(self._backlog):
            # MongoDB was away a moment ago: no model is asked for a turn that cannot be stored.
            await self._store.check()
        lease = await self._pool.lease(request.instance_id, request.org_id)
        now = self._clock.now()
        run = Run(
            run_id=run_id,
            org_id=request.org_id,
            user_id=user_id,
            conversation_id=conversation_id,
            instance_id=request.instance_id,
            config_hash=lease.snapshot.config_hash,
            started_at=now,
            stream=RunStream(run_id, is_followed=request.is_followed),
        )
        message = Message(
            message_id=new_id(),
            conversation_id=conversation_id,
            run_id=run_id,
            role="user",
            content=request.message,
            created_at=now,
        )
        try:
            run_request = await self._run_request(run, request, message, lease, conversation)
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
        self._table.start(run, self._execution.launch(run, lease, run_request))
        try:
            await self._record(run, message, conversation)
        except BaseException:
            run.refuse()
            raise
        self._table.record(run)
        return run

    async def _record(self, run: Run, message: Message, conversation: Conversation | None) -> None:
        """Store what has to be there before anything of the run can be seen: its message, and itself."""
        updated_at = message.created_at
        thread = msgspec.structs.replace(conversation, updated_at=updated_at) if conversation else _new(run, message)
        start = TurnStart(conversation=thread, is_new=conversation is None, message=message, run=run.record(last_seq=0))
        storing = self._store.begin_turn(run.org_id, start)
        if conversation is not None:
            await storing
        else:
            await asyncio.gather(self._locks.acquire(run.org_id, run.conversation_id, run.run_id), storing)

    async def _run_request(
        self, run: Run, request: TurnRequest, message: Message, lease: Lease, conversation: Conversation | None
    ) -> RunRequest:
        """What the engine gets: the message, and what the model gets to see with it."""
        limits = typed_config(lease.snapshot).mode_config
        earlier: Sequence[Message] = ()
        if conversation is not None:
            earlier = await self._store.newest_messages(
                run.org_id, run.conversation_id, limit=limits.message_context_window, before=message.message_id
            )
        return RunRequest(
            run_id=run.run_id,
            conversation_id=run.conversation_id,
            org_id=request.org_id,
            user_id=run.user_id,
            message=request.message,
            history=window(earlier, max_tokens=limits.max_context_window),
            resource_id=request.resource_id,
            deadline=asyncio.get_running_loop().time() + limits.run_timeout,
        )


def _new(run: Run, message: Message) -> Conversation:
    return Conversation(
        conversation_id=run.conversation_id,
        instance_id=run.instance_id,
        user_id=run.user_id,
        title=title_of(message.content),
        created_at=message.created_at,
        updated_at=message.created_at,
    )


def title_of(message: str) -> str:
    """The first line of the first message, cut to a length that fits a list."""
    line = next((stripped for part in message.splitlines() if (stripped := part.strip())), message.strip())
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"
