"""What the wires whose conversations alternate between two roles have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runtime_worker.models.base import ModelMessage, ModelToolCall

NUDGE = "Continue."
"""Stands where such a wire wants a user's turn and the conversation has none: at its start when a window cut it off,
at its end when an assistant spoke last."""


def merged(turns: Iterable[tuple[str, list[dict[str, Any]]]], *, first: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The turns that say anything, neighbours of one role in one, beginning with the role `first`."""
    result: list[tuple[str, list[dict[str, Any]]]] = []
    for role, parts in turns:
        if not parts:
            continue
        if result and result[-1][0] == role:
            result[-1][1].extend(parts)
        else:
            if not result and role != first:
                result.append((first, []))
            result.append((role, list(parts)))
    return result or [(first, [])]


def system_text(messages: Sequence[ModelMessage]) -> str:
    """All system messages as the one text these wires take."""
    return "\n\n".join(message.content for message in messages if message.role == "system" and message.content)


def arguments_object(arguments: str) -> dict[str, Any]:
    """A call's arguments as the object these wires want. Text that is none was answered with an error when it was
    called; it goes back as what it was, under a name of its own."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {"arguments": arguments}


def signed(wire: str, signature: str) -> str:
    """A signature with the name of the wire that wrote it; "" stays ""."""
    return f"{wire}:{signature}" if signature else ""


def own_signature(call: ModelToolCall, wire: str) -> str:
    """What this wire wrote, "" when another one did: nobody can read another's."""
    return call.signature.removeprefix(f"{wire}:") if call.signature.startswith(f"{wire}:") else ""
