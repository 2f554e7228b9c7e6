"""Rows for conversations that have just begun, so that they can be listed."""

import asyncio

from runtime_worker.conversations.base import Conversation, ConversationStore
from runtime_worker.turn.run import Run
from shared.errors import StoreUnavailable

LISTED_AFTER_SECONDS = 0.25
"""Behind the first token of most runs, and long enough for what begins meanwhile to share a command."""


class NewConversations:
    """Gives new conversations rows of their own. They begin without: their first message holds what is in them, and
    whoever asks for one by its id finds it."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._waiting: list[Run] = []
        self._writing: set[asyncio.Task[None]] = set()

    def begun_by(self, run: Run, conversation: Conversation) -> None:
        """A run that ends before its conversation's turn writes the row itself, along with the rest."""
        run.opens = conversation
        if not self._waiting:
            asyncio.get_running_loop().call_later(LISTED_AFTER_SECONDS, self._write_waiting)
        self._waiting.append(run)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for run in waiting:
            if run.opens is not None and run.ended_at is None:
                task = asyncio.create_task(self._write(run, run.opens))
                self._writing.add(task)
                task.add_done_callback(self._writing.discard)

    async def _write(self, run: Run, conversation: Conversation) -> None:
        try:
            is_new = await self._store.open_conversation(run.org_id, conversation)
        except StoreUnavailable:
            return  # The end of the run does it, or whoever asks for the conversation before.
        # Whoever asked for it by its id before has made the row of what was known when it began.
        run.opens, run.is_anchor_kept = None, is_new and conversation.anchor is not None
