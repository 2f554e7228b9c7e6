"""Tool results as a model and a client get them: plain values, of bounded size."""

from typing import Any

import msgspec
from pydantic import BaseModel

from shared.plugin_host.messages import ToolOutcome

MAX_RESULT_CHARS = 20_000
"""About 5 000 tokens: a tool that returns more would crowd the conversation out of the context window."""
MAX_NOTE_CHARS = 200
MAX_DEPTH = 50
"""Of nested values. What shows a result and what stores it have limits of their own, near 100."""


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
    """The value itself while it is small and flat enough, else its text, shortened."""
    shown = plain(value)
    if isinstance(shown, str):
        return as_text(shown)
    is_small = len(msgspec.json.encode(shown)) <= MAX_RESULT_CHARS and _depth(shown) <= MAX_DEPTH
    return shown if is_small else as_text(shown)


def bounded(outcome: ToolOutcome) -> ToolOutcome:
    """The same limits once more, for an outcome that comes from where nobody has to keep them."""
    return ToolOutcome(_bounded(outcome.content), _bounded(outcome.shown), outcome.is_error)


def _bounded(value: Any) -> Any:
    # A text that was cut before has a note at its end.
    if isinstance(value, str) and len(value) <= MAX_RESULT_CHARS + MAX_NOTE_CHARS:
        return value
    return capped(value)


def _depth(value: Any) -> int:
    """Levels of lists and dicts, counted no further than one past what is allowed."""
    depth, level = 0, [value]
    while depth <= MAX_DEPTH and (level := [item for item in level if isinstance(item, list | dict)]):
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _hook(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
