"""What a turn starts from: its conversation so far, and what of it the model gets to see."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, ConversationStore, Message
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
    store: ConversationStore, org_id: UUID, conversation: Conversation, asked: Message, limits: ModeConfig
) -> Recollection:
    """For a conversation that is going on. `asked` is its new message."""
    conversation_id = conversation.conversation_id
    reading = store.newest_messages(
        org_id,
        conversation_id,
        limit=limits.message_context_window,
        before=asked.message_id,
        after=conversation.compacted_through,
    )
    summary: Message | None = None
    newest: Sequence[Message]
    if conversation.summary_id is None:
        newest = await reading
    else:
        newest, summary = await asyncio.gather(
            reading, store.find_message(org_id, conversation_id, conversation.summary_id)
        )
    # Counted along, because what has left the window of messages is not read any more.
    counted = conversation.context_tokens + tokens_since_last_question(newest)
    tokens = max(counted, tokens_of(*newest) + (tokens_of_summary(summary) if summary else 0))
    thread = msgspec.structs.replace(
        conversation, updated_at=asked.created_at, context_tokens=tokens + tokens_of(asked)
    )
    max_tokens = limits.max_context_window
    is_over = limits.enabled_auto_compact and bool(newest) and tokens > max_tokens
    return Recollection(
        conversation=thread,
        history=recalled(newest, summary=summary, max_tokens=max_tokens),
        overflow=Overflow(conversation, summary, newest, asked, _summary_ids()) if is_over else None,
    )


def _summary_ids() -> tuple[UUID, ...]:
    return tuple(new_id() for _ in range(MAX_SUMMARIES))
