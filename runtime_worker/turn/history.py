"""What of a conversation a model gets to see again."""

from collections.abc import Sequence

from runtime_worker.conversations.base import Message
from runtime_worker.models.base import ModelMessage
from shared.prompts import as_data

CHARS_PER_TOKEN = 4
"""A rough bound is enough here: the exact count depends on the model, and the model refuses what is too long."""

TOKENS_PER_MESSAGE = 4

SUMMARY_TAG = "earlier_conversation"


def recalled(
    messages: Sequence[Message], *, summary: Message | None = None, max_tokens: int
) -> tuple[ModelMessage, ...]:
    """The summary of what came before, and the newest of `messages` (oldest first) that fit beside it."""
    if summary is None:
        return window(messages, max_tokens=max_tokens)
    return (told(summary), *window(messages, max_tokens=max_tokens - tokens_of_summary(summary)))


def window(messages: Sequence[Message], *, max_tokens: int) -> tuple[ModelMessage, ...]:
    """The newest of `messages` (oldest first) that fit into `max_tokens`, each answer with its tool calls before it.

    An answer and its tool calls stay or go together: a tool result without its call is refused by every provider.
    """
    kept = newest_that_fit(messages, max_tokens=max_tokens)
    return tuple(part for message in kept for part in on_the_wire(message))


def newest_that_fit(messages: Sequence[Message], *, max_tokens: int) -> Sequence[Message]:
    left, first = max_tokens, len(messages)
    for message in reversed(messages):
        left -= tokens_of(message)
        if left < 0:
            break
        first -= 1
    return messages[first:]


def brought_that_fit(messages: Sequence[ModelMessage], *, max_tokens: int) -> tuple[ModelMessage, ...]:
    """The newest of what a caller brought along that fit into `max_tokens`."""
    left, first = max_tokens, len(messages)
    for message in reversed(messages):
        left -= _tokens(message)
        if left < 0:
            break
        first -= 1
    return tuple(messages[first:])


def tokens_of(*messages: Message) -> int:
    return sum(_tokens(part) for message in messages for part in on_the_wire(message))


def tokens_of_summary(summary: Message) -> int:
    return _tokens(told(summary))


def told(summary: Message) -> ModelMessage:
    """A summary as models see it: data of the user's side, not an instruction, for what users and tools wrote went into
    it.
    """
    return ModelMessage("user", as_data(SUMMARY_TAG, summary.content))


def tokens_since_last_question(messages: Sequence[Message]) -> int:
    """What the newest answer comes to: all that was said after the last message of the user."""
    tokens = 0
    for message in reversed(messages):
        if message.role == "user":
            break
        tokens += tokens_of(message)
    return tokens


def on_the_wire(message: Message) -> tuple[ModelMessage, ...]:
    # A run that failed before it said anything left no text; an empty assistant message helps nobody.
    said = (ModelMessage(message.role, message.content),) if message.content and message.role != "summary" else ()
    return (*message.tool_messages, *said)


def _tokens(message: ModelMessage) -> int:
    chars = len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return TOKENS_PER_MESSAGE + chars // CHARS_PER_TOKEN
