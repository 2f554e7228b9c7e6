"""A conversation's history in the form that model providers accept."""

from collections.abc import Sequence

from runtime_worker.models.base import ModelMessage


def well_formed(history: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The history without broken tool exchanges: providers refuse a call without its result, and the other way round.

    A window that starts or ends in the middle of an exchange is the usual cause.
    """
    kept: list[ModelMessage] = []
    position = 0
    while position < len(history):
        message = history[position]
        position += 1
        if message.role == "tool":
            continue
        if not message.tool_calls:
            kept.append(message)
            continue
        results: list[ModelMessage] = []
        while position < len(history) and history[position].role == "tool":
            results.append(history[position])
            position += 1
        if {call.id for call in message.tool_calls} == {result.tool_call_id for result in results}:
            kept += [message, *results]
        elif message.content:
            kept.append(ModelMessage(message.role, message.content))
    return kept


def spoken(history: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Only what was said: for nodes that are offered no tools, where some providers refuse tool messages."""
    return [
        ModelMessage(message.role, message.content) for message in history if message.role != "tool" and message.content
    ]
