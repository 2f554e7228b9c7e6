"""What the scripted model server answers to one call: a list of parts, written to the wire in order."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.model_call import ModelCall

Matcher = Callable[["ModelCall"], bool]


@dataclass(frozen=True)
class Text:
    """One delta with this content."""

    content: str


@dataclass(frozen=True)
class CutText:
    """One delta whose bytes come in two writes, cut `at_byte` bytes after its text begins."""

    content: str
    at_byte: int


@dataclass(frozen=True)
class ToolCalls:
    """Parallel tool calls, the arguments in pieces of `piece_chars` where the wire has pieces.

    A call is `(name, arguments)` or `(name, arguments, id)`; arguments are an object or the literal JSON text.
    """

    calls: Sequence[tuple[Any, ...]]
    piece_chars: int = 7


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Gate:
    """Wait until the test sets the event: for 'while it is streaming' without sleeping."""

    opens: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Stall:
    """Send nothing more until the peer hangs up or the server is closed."""


@dataclass(frozen=True)
class HangUp:
    """Reset the connection."""


@dataclass(frozen=True)
class EndBody:
    """End the HTTP body properly, but without a finish reason, usage or `[DONE]`."""


@dataclass(frozen=True)
class Raw:
    """These bytes as they are, wherever they belong in the stream."""

    data: bytes


Part = Text | CutText | ToolCalls | Pause | Gate | Stall | HangUp | EndBody | Raw


@dataclass
class Step:
    """One scripted answer. `when` decides whether it is meant for a call; `times` None serves any number, even zero."""

    parts: Sequence[Part]
    when: Matcher | None = None
    times: int | None = 1
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = field(default_factory=lambda: usage_of(10, 5))
    label: str = ""
    served: int = 0

    @property
    def is_open(self) -> bool:
        return self.times is None or self.served < self.times

    @property
    def is_unconsumed(self) -> bool:
        return self.times is not None and self.served < self.times

    def reason(self) -> str:
        return self.finish_reason or ("tool_calls" if self.calls else "stop")

    @property
    def text(self) -> str:
        return "".join(part.content for part in self.parts if isinstance(part, Text | CutText))

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        return [call for part in self.parts if isinstance(part, ToolCalls) for call in part.calls]


def usage_of(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """A usage object as OpenAI writes it; the other dialects translate it."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def sse(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def chunk(model: str, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def function(name: str, description: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """A tool as OpenAI is told it."""
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def form_of(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """A form for the answer as OpenAI is told it."""
    return (
        {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}} if schema else None
    )


def json_text(arguments: Any) -> str:
    """Arguments as the script gives them: an object, or the literal text."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def call_id_of(call: Sequence[Any], position: int) -> str:
    return str(call[2]) if len(call) > 2 else f"call_{call[0]}_{position}"
