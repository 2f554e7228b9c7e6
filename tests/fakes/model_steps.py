"""What the scripted model server answers to one call: a list of parts, written to the wire in order."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
class ToolCalls:
    """Parallel tool calls as index-addressed deltas, the arguments in pieces of `piece_chars`.

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


Part = Text | ToolCalls | Pause | Gate | Stall | HangUp | EndBody | Raw


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
        calls_tools = any(isinstance(part, ToolCalls) for part in self.parts)
        return self.finish_reason or ("tool_calls" if calls_tools else "stop")


def usage_of(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    """A usage object as OpenAI writes it."""
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


def tool_call_deltas(part: ToolCalls) -> Iterator[dict[str, Any]]:
    """First every call's id and name, then the pieces of arguments in turns, as providers interleave them."""
    texts = []
    for index, (name, arguments, *rest) in enumerate(part.calls):
        texts.append(arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))
        call_id = rest[0] if rest else f"call_{name}_{index}"
        opening = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield {"tool_calls": [opening]}
    for start in range(0, max((len(text) for text in texts), default=0), part.piece_chars):
        for index, text in enumerate(texts):
            if piece := text[start : start + part.piece_chars]:
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def whole_completion(model: str, step: Step) -> dict[str, Any]:
    """The same answer for a caller that did not ask for a stream."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(p.content for p in step.parts if isinstance(p, Text)),
    }
    calls = [call for part in step.parts if isinstance(part, ToolCalls) for call in part.calls]
    if calls:
        message["tool_calls"] = [
            {
                "id": rest[0] if rest else f"call_{name}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": args if isinstance(args, str) else json.dumps(args)},
            }
            for index, (name, args, *rest) in enumerate(calls)
        ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": step.reason()}],
        "usage": step.usage,
    }
