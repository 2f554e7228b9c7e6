"""The chunks of Gemini's streamGenerateContent."""

from typing import Any

import msgspec

from runtime_worker.models.accumulator import Accumulator
from runtime_worker.models.base import DeltaSink, FinishReason, Usage
from runtime_worker.models.turns import signed
from runtime_worker.models.upstream_errors import error_in_stream
from shared.errors import ModelProtocolError

_FINISH: dict[str, FinishReason] = {
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
_FAILED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})


class _FunctionCall(msgspec.Struct):
    name: str = ""
    id: str = ""
    args: msgspec.Raw = msgspec.Raw(b"{}")


class _Part(msgspec.Struct, rename="camel"):
    text: str = ""
    thought: bool = False
    function_call: _FunctionCall | None = None
    thought_signature: str = ""


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _WireUsage(msgspec.Struct, rename="camel", gc=False):
    prompt_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0


class _PromptFeedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class Chunk(msgspec.Struct, rename="camel"):
    """One event: more of the answer, or the reason why there is none."""

    candidates: list[_Candidate] = []
    usage_metadata: _WireUsage | None = None
    prompt_feedback: _PromptFeedback | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def decode_chunk(data: bytes) -> Chunk:
    """Raises ModelProtocolError for anything that is not a chunk."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelProtocolError("the model sent something that is not a part of an answer") from None


class GeminiAccumulator(Accumulator):
    """Calls come whole. The wire has no word for one call at a time, so where that was asked for the others are
    dropped: the model asks again once it has seen the first result."""

    __slots__ = ("_calls_in_parallel",)

    def __init__(self, on_delta: DeltaSink | None, *, calls_in_parallel: bool = True) -> None:
        super().__init__(on_delta)
        self._calls_in_parallel = calls_in_parallel

    def take(self, data: bytes) -> bool:
        """Never done by itself: the stream just ends."""
        chunk = decode_chunk(data)
        if chunk.error is not None:
            raise error_in_stream(chunk.error)
        if chunk.usage_metadata is not None:
            self._add_usage(chunk.usage_metadata)
        if chunk.candidates:
            candidate = chunk.candidates[0]
            if candidate.content is not None:
                for part in candidate.content.parts:
                    self._add_part(part)
            if candidate.finish_reason:
                if candidate.finish_reason in _FAILED:
                    raise ModelProtocolError("the model wrote a tool call that cannot be read")
                self.finish_reason = _FINISH.get(candidate.finish_reason, "stop")
        elif chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self.finish_reason = "content_filter"
        return False

    def _add_part(self, part: _Part) -> None:
        if part.function_call is not None:
            if self._calls and not self._calls_in_parallel:
                return
            call = self.open_call(part.function_call.id, part.function_call.name)
            call.signature = signed("gemini", part.thought_signature)
            self.add_arguments(call, bytes(part.function_call.args).decode())
        elif part.text and not part.thought:
            self.add_text(part.text)

    def _add_usage(self, usage: _WireUsage) -> None:
        """Counts are running totals. What the model thought is billed as output."""
        self.usage = Usage(
            usage.prompt_token_count + usage.tool_use_prompt_token_count,
            usage.candidates_token_count + usage.thoughts_token_count,
            usage.cached_content_token_count,
        )
