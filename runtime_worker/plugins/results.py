"""Tool results as a model and a client get them: plain values, of bounded size."""

from typing import Any

import msgspec
from pydantic import BaseModel

MAX_RESULT_CHARS = 20_000
"""About 5 000 tokens: a tool that returns more would crowd the conversation out of the context window."""


def plain(value: Any) -> Any:
    """JSON-able values; whatever JSON has no word for becomes its text."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_hook)


def as_text(value: Any) -> str:
    """What the model reads, cut with a note when it is too long."""
    text = value if isinstance(value, str) else msgspec.json.encode(plain(value)).decode()
    if len(text) <= MAX_RESULT_CHARS:
        return text
    note = f"\n[truncated: the result has {len(text)} characters, the first {MAX_RESULT_CHARS} are shown]"
    return text[:MAX_RESULT_CHARS] + note


def capped(value: Any) -> Any:
    """The value itself while it is small enough, else its shortened text."""
    shown = plain(value)
    size = len(shown) if isinstance(shown, str) else len(msgspec.json.encode(shown))
    return shown if size <= MAX_RESULT_CHARS else as_text(shown)


def _hook(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
