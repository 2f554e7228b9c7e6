"""What a turn begins with: its conversation, and the message as it is stored."""

from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, Message, Thread
from runtime_worker.models.base import ModelMessage
from runtime_worker.pool.entry import Lease
from runtime_worker.turn.history import brought_that_fit, tokens_of
from runtime_worker.turn.run import Run
from shared.frameworks import Mode

TITLE_CHARS = 80


def new_conversation(run: Run, message: Message) -> Conversation:
    """The one that a run begins."""
    return Conversation(
        conversation_id=run.conversation_id,
        instance_id=run.instance_id,
        user_id=run.user_id,
        title=title_of(message.content),
        created_at=message.created_at,
        updated_at=message.created_at,
        context_tokens=tokens_of(message),
        resource_id=run.resource_id if run.mode is Mode.GROUNDED else None,
        central_id=run.central_id,
    )


def handed_over(thread: Thread, instance_id: UUID) -> Thread:
    """A thread whose central point leads to another instance now. What was said goes along; what the one before
    kept for itself, of a resource and of its agents, means nothing to this one."""
    conversation = msgspec.structs.replace(thread.conversation, instance_id=instance_id, anchor=None, last_agent=None)
    return msgspec.structs.replace(thread, conversation=conversation)


def after_what_was_brought(brought: tuple[ModelMessage, ...], message: Message, lease: Lease) -> Message:
    """The message with what fits beside it of what its caller brought along. Stored with it, so that a worker that has
    to begin the run anew knows it too."""
    max_tokens = lease.config.mode_config.max_context_window
    fitting = brought_that_fit(brought, max_tokens=max_tokens - tokens_of(message))
    return msgspec.structs.replace(message, tool_messages=fitting)


def title_of(message: str) -> str:
    """The first line of the first message, cut to a length that fits a list."""
    line = next((stripped for part in message.splitlines() if (stripped := part.strip())), message.strip())
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"
