"""What of a conversation a model gets to see again."""

from collections.abc import Sequence

from runtime_worker.conversations.base import Message
from runtime_worker.models.base import ModelMessage

CHARS_PER_TOKEN = 4
"""A rough bound is enough here: the exact count depends on the model, and the model refuses what is too long."""

TOKENS_PER_MESSAGE = 4


def window(messages: Sequence[Message], *, max_tokens: int) -> tuple[ModelMessage, ...]:
    """The newest of `messages` (oldest first) that fit into `max_tokens`, each answer with its tool calls before it.

    An answer and its tool calls stay or go together: a tool result without its call is refused by every provider.
    """
    kept: list[tuple[ModelMessage, ...]] = []
    left = max_tokens
    for message in reversed(messages):
        wire = _on_the_wire(message)
        left -= sum(_tokens(part) for part in wire)
        if left < 0:
            break
        kept.append(wire)
    return tuple(part for wire in reversed(kept) for part in wire)


def _on_the_wire(message: Message) -> tuple[ModelMessage, ...]:
    # A run that failed before it said anything left no text; an empty assistant message helps nobody.
    said = (ModelMessage(role=message.role, content=message.content),) if message.content else ()
    return (*message.tool_messages, *said)


def _tokens(message: ModelMessage) -> int:
    chars = len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return TOKENS_PER_MESSAGE + chars // CHARS_PER_TOKEN
