"""The chunks of an OpenAI-compatible completion stream and how they add up to one answer."""

from typing import Any

import msgspec

from runtime_worker.models.base import DeltaSink, FinishReason, ModelAnswer, ModelToolCall, Usage
from shared.errors import ModelProtocolError

MAX_ANSWER_CHARS = 1024 * 1024
"""Twice what the most talkative models write, and little enough to be kept for many runs at once."""
CHARS_PER_DELTA = 2
"""What a delta counts besides its text: each becomes an event, which waits in memory for a slow client."""
MAX_TOOL_CALLS = 128

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCallDelta] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _CachedTokens(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


class Chunk(msgspec.Struct):
    """One event. A provider that fails in the middle sends `error` instead of choices."""

    choices: list[_Choice] | None = None
    usage: _WireUsage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def decode_chunk(data: bytes) -> Chunk:
    """Raises ModelProtocolError for anything that is not a chunk."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelProtocolError("the model sent something that is not a completion chunk") from None


class _OpenCall:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class Accumulator:
    """Adds chunks up and hands text on at once. One per call."""

    __slots__ = ("_calls", "_chars", "_on_delta", "_texts", "finish_reason", "usage")

    def __init__(self, on_delta: DeltaSink | None) -> None:
        self._on_delta = on_delta
        self._texts: list[str] = []
        self._chars = 0
        self._calls: list[tuple[int, _OpenCall]] = []
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None

    def add(self, chunk: Chunk) -> None:
        """Raises ModelProtocolError when the answer outgrows its bounds."""
        if chunk.choices:
            choice = chunk.choices[0]
            if (delta := choice.delta) is not None:
                if text := delta.content or delta.refusal:
                    self._chars += len(text) + CHARS_PER_DELTA
                    self._texts.append(text)
                    if self._on_delta is not None:
                        self._on_delta(text)
                if delta.tool_calls:
                    self._add_calls(delta.tool_calls)
                if self._chars > MAX_ANSWER_CHARS:
                    raise ModelProtocolError("the model's answer is too long")
            if choice.finish_reason:
                self.finish_reason = _FINISH.get(choice.finish_reason, "stop")
        if chunk.usage is not None:
            self._add_usage(chunk.usage)

    def answer(self, estimated_input_tokens: int) -> ModelAnswer:
        """The whole answer. Without a count from the provider, usage is estimated and says so."""
        content = "".join(self._texts)
        calls = tuple(
            ModelToolCall(call.id or f"call_{position}", call.name, "".join(call.arguments))
            for position, (_, call) in enumerate(self._calls)
        )
        written = len(content) + sum(len(call.name) + len(call.arguments) for call in calls)
        usage = self.usage or Usage(estimated_input_tokens, estimate_tokens(written), 0, is_estimated=True)
        # Some servers say "stop" although they call tools.
        reason = "tool_calls" if calls and self.finish_reason in (None, "stop") else self.finish_reason or "stop"
        return ModelAnswer(content, calls, reason, usage)

    def _add_calls(self, deltas: list[_ToolCallDelta]) -> None:
        for delta in deltas:
            call = self._open_call(delta)
            if delta.function is not None:
                if delta.function.name:
                    self._chars += len(delta.function.name)
                    call.name += delta.function.name
                if delta.function.arguments:
                    self._chars += len(delta.function.arguments)
                    call.arguments.append(delta.function.arguments)

    def _open_call(self, delta: _ToolCallDelta) -> _OpenCall:
        """The call a delta belongs to. Calls are told apart by index; where a server leaves that out or always sends
        0 (Gemini's compatible endpoint did both), a new id means a new call."""
        index = delta.index if delta.index is not None else (self._calls[-1][0] if self._calls else 0)
        known = next((call for at, call in reversed(self._calls) if at == index), None)
        if known is None or (delta.id and known.id and delta.id != known.id):
            if len(self._calls) >= MAX_TOOL_CALLS:
                raise ModelProtocolError("the model asked for too many tool calls at once")
            known = _OpenCall()
            self._calls.append((index, known))
        if delta.id:
            known.id = delta.id
        return known

    def _add_usage(self, usage: _WireUsage) -> None:
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        self.usage = Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)


def estimate_tokens(chars: int) -> int:
    """Four characters a token: OpenAI's own rule of thumb for English; only used where a provider counts nothing."""
    return (chars + 3) // 4
