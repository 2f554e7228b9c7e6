"""A conversation's history in the form that model providers accept."""

from collections.abc import Sequence

from msgspec.structs import replace

from runtime_worker.engines.tool_calls import with_own_ids
from runtime_worker.models.base import ModelMessage


def well_formed(history: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The history without broken tool exchanges: providers refuse a call without its result, and the other way round.

    A window that starts or ends in the middle of an exchange is the usual cause. An id that comes again gets a number:
    some models begin at `call_0` in every turn, while others, and some frameworks, take calls of one id for one call.
    """
    kept: list[ModelMessage] = []
    taken: set[str] = set()
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
            kept += _with_own_ids(message, results, taken)
        elif message.content:
            kept.append(ModelMessage(message.role, message.content))
    return kept


def _with_own_ids(asked: ModelMessage, results: Sequence[ModelMessage], taken: set[str]) -> list[ModelMessage]:
    """An exchange under ids that are not `taken`, which they are then."""
    calls = with_own_ids(asked.tool_calls, taken)
    ids = {given.id: call.id for given, call in zip(asked.tool_calls, calls, strict=True)}
    taken.update(ids.values())
    if all(given == own for given, own in ids.items()):
        return [asked, *results]
    told = [replace(result, tool_call_id=ids[result.tool_call_id or ""]) for result in results]
    return [replace(asked, tool_calls=calls), *told]


def spoken(history: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Only what was said: for nodes that are offered no tools, where some providers refuse tool messages."""
    return [
        ModelMessage(message.role, message.content) for message in history if message.role != "tool" and message.content
    ]
