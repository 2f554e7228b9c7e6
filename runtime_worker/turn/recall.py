"""What a turn starts from: its conversation so far, and what of it the model gets to see."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, ConversationStore, Message, Thread
from runtime_worker.models.base import ModelMessage
from runtime_worker.turn.compaction import Overflow
from runtime_worker.turn.history import recalled, tokens_of, tokens_of_summary, tokens_since_last_question
from shared.ids import new_id
from shared.mode_configs import ModeConfig

MAX_SUMMARIES = 16
"""So many steps of a compaction write in order; a past that takes more has been there since before compaction was."""


class Recollection(msgspec.Struct, frozen=True):
    """`conversation` is how it is stored with this turn. `overflow` is there when it is to be compacted first; without
    that, or should that fail, `history` is what fits."""

    conversation: Conversation
    history: tuple[ModelMessage, ...] = ()
    overflow: Overflow | None = None


async def recollect(
    store: ConversationStore, org_id: UUID, thread: Thread, asked: Message, limits: ModeConfig
) -> Recollection:
    """For a conversation that is going on. `asked` is its new message."""
    conversation = thread.conversation
    reading = _newest(store, org_id, thread, asked, limits.message_context_window)
    summary: Message | None = None
    newest: Sequence[Message]
    if conversation.summary_id is None:
        newest = await reading
    else:
        newest, summary = await asyncio.gather(
            reading, store.find_message(org_id, conversation.conversation_id, conversation.summary_id)
        )
    # Counted along, because what has left the window of messages is not read any more.
    counted = conversation.context_tokens + tokens_since_last_question(newest)
    tokens = max(counted, tokens_of(*newest) + (tokens_of_summary(summary) if summary else 0))
    continued = msgspec.structs.replace(
        conversation, updated_at=asked.created_at, context_tokens=tokens + tokens_of(asked)
    )
    max_tokens = limits.max_context_window
    is_over = limits.enabled_auto_compact and bool(newest) and tokens > max_tokens
    return Recollection(
        conversation=continued,
        history=recalled(newest, summary=summary, max_tokens=max_tokens),
        overflow=Overflow(conversation, summary, newest, asked, _summary_ids()) if is_over else None,
    )


async def _newest(
    store: ConversationStore, org_id: UUID, thread: Thread, asked: Message, window: int
) -> Sequence[Message]:
    if window <= thread.window:
        return thread.newest[-window:] if window else ()
    conversation = thread.conversation
    return await store.newest_messages(
        org_id,
        conversation.conversation_id,
        limit=window,
        before=asked.message_id,
        after=conversation.compacted_through,
    )


def _summary_ids() -> tuple[UUID, ...]:
    return tuple(new_id() for _ in range(MAX_SUMMARIES))
