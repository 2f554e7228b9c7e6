"""A conversation that a turn goes on with: found, had to itself, and known as it is then."""

import asyncio
from uuid import UUID

from runtime_worker.conversations.base import ConversationStore, Thread
from runtime_worker.turn.backlog import SaveBacklog
from runtime_worker.turn.request import TurnRequest
from runtime_worker.turn.run import RunTable
from runtime_worker.turn.run_locks import ENDED_SECONDS, RunLocks
from shared.clock import Clock
from shared.errors import Conflict, ConversationBusy, Draining, NotFound

QUEUE_SECONDS = 60.0
"""How long a turn waits for the one before it: as long as common proxies wait for an answer's first byte."""
QUEUE_LOOK_SECONDS = 0.1


class Threads:
    """Reads a conversation, takes its lock and, where another turn may have ended in between, reads it again.

    In this order, because only the owner of a conversation may keep others from it, and in most turns what was read to
    know the owner is all that has to be read.
    """

    def __init__(
        self, store: ConversationStore, locks: RunLocks, table: RunTable, backlog: SaveBacklog, clock: Clock
    ) -> None:
        self._store = store
        self._locks = locks
        self._table = table
        self._backlog = backlog
        self._clock = clock

    async def have(
        self, request: TurnRequest, conversation_id: UUID, user_id: UUID, run_id: UUID, *, window: int
    ) -> Thread:
        """The conversation with up to `window` messages, at once or when it is free; its lock is the run's then.

        Raises NotFound for another user's, Conflict for another orchestrator's, ConversationBusy and Draining.
        """
        read_at = self._clock.monotonic()
        thread = await self._read(request, conversation_id, user_id, window)
        was_behind = await self._backlog.settle(conversation_id)
        ended = await self._take_turn(request, conversation_id, run_id)
        is_old = was_behind or self._clock.monotonic() - read_at >= ENDED_SECONDS
        if not is_old and _has_answer(thread, ended):
            return thread
        try:
            return await self._read(request, conversation_id, user_id, window)
        except BaseException:
            await asyncio.shield(self._locks.release(request.org_id, conversation_id, run_id))
            raise

    async def _read(self, request: TurnRequest, conversation_id: UUID, user_id: UUID, window: int) -> Thread:
        thread = await self._store.find_thread(request.org_id, conversation_id, user_id=user_id, window=window)
        if thread is None:
            raise NotFound("no such conversation")
        found = thread.conversation
        is_of_point = request.central_id is not None and found.central_id == request.central_id
        if found.instance_id != request.instance_id and not is_of_point:
            raise Conflict("the conversation belongs to another orchestrator")
        return thread

    async def _take_turn(self, request: TurnRequest, conversation_id: UUID, run_id: UUID) -> UUID | None:
        """Have the conversation to ourselves; the run that had it until a moment ago."""
        give_up_at = self._clock.monotonic() + QUEUE_SECONDS
        while True:
            try:
                return await self._locks.acquire(request.org_id, conversation_id, run_id)
            except ConversationBusy:
                if not request.is_queued or self._clock.monotonic() > give_up_at:
                    raise
            if self._table.is_draining:
                raise Draining
            await asyncio.sleep(QUEUE_LOOK_SECONDS)


def _has_answer(thread: Thread, ended: UUID | None) -> bool:
    """Whether the answer of a run that has ended, the last that it leaves, is in the thread. Not when it left none."""
    return ended is None or any(said.run_id == ended and said.role == "assistant" for said in thread.newest)
