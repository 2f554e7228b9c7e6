"""The chunks of an OpenAI-compatible completion stream."""

from typing import Any

import msgspec

from runtime_worker.models.accumulator import Accumulator, OpenCall
from runtime_worker.models.base import DeltaSink, FinishReason, Usage
from runtime_worker.models.upstream_errors import error_in_stream
from shared.errors import ModelProtocolError

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


class _GroqExtra(msgspec.Struct):
    usage: _WireUsage | None = None


class Chunk(msgspec.Struct):
    """One event. A provider that fails in the middle sends `error` instead of choices."""

    choices: list[_Choice] | None = None
    usage: _WireUsage | None = None
    x_groq: _GroqExtra | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def decode_chunk(data: bytes) -> Chunk:
    """Raises ModelProtocolError for anything that is not a chunk."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelProtocolError("the model sent something that is not a completion chunk") from None


class OpenAIAccumulator(Accumulator):
    """Calls are told apart by index; where a server leaves that out or always sends 0 (Gemini's compatible endpoint did
    both), a new id means a new call."""

    __slots__ = ("_indices",)

    def __init__(self, on_delta: DeltaSink | None) -> None:
        super().__init__(on_delta)
        self._indices: list[int] = []

    def take(self, data: bytes) -> bool:
        if data == b"[DONE]":
            if self.finish_reason is None:
                self.finish_reason = "stop"
            return True
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise error_in_stream(chunk.error)
        self.add(chunk)
        return False

    def add(self, chunk: Chunk) -> None:
        """Raises ModelProtocolError when the answer outgrows its bounds."""
        if chunk.choices:
            choice = chunk.choices[0]
            if (delta := choice.delta) is not None:
                if text := delta.content or delta.refusal:
                    self.add_text(text)
                if delta.tool_calls:
                    self._add_calls(delta.tool_calls)
            if choice.finish_reason:
                self.finish_reason = _FINISH.get(choice.finish_reason, "stop")
        if chunk.usage is not None:
            self._add_usage(chunk.usage)
        elif chunk.x_groq is not None and chunk.x_groq.usage is not None:
            self._add_usage(chunk.x_groq.usage)

    def _add_calls(self, deltas: list[_ToolCallDelta]) -> None:
        for delta in deltas:
            call = self._call_of(delta)
            if delta.function is not None:
                if delta.function.name:
                    call.name += delta.function.name
                    self._count(len(delta.function.name))
                if delta.function.arguments:
                    self.add_arguments(call, delta.function.arguments)

    def _call_of(self, delta: _ToolCallDelta) -> OpenCall:
        """The call a delta belongs to."""
        index = delta.index if delta.index is not None else (self._indices[-1] if self._indices else 0)
        open_calls = zip(reversed(self._indices), reversed(self._calls), strict=True)
        known = next((call for at, call in open_calls if at == index), None)
        if known is None or (delta.id and known.id and delta.id != known.id):
            known = self.open_call("", "")
            self._indices.append(index)
        if delta.id:
            known.id = delta.id
        return known

    def _add_usage(self, usage: _WireUsage) -> None:
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        self.usage = Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)
