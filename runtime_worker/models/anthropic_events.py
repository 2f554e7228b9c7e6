"""The events of Anthropic's message stream."""

from typing import Any

import msgspec

from runtime_worker.models.accumulator import Accumulator, OpenCall
from runtime_worker.models.base import DeltaSink, FinishReason, Usage
from runtime_worker.models.turns import signed
from runtime_worker.models.upstream_errors import error_in_stream
from shared.errors import ModelProtocolError

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_THINKING = ("thinking", "redacted_thinking")


class _WireUsage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(msgspec.Struct):
    usage: _WireUsage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")
    data: str = ""


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    stop_reason: str | None = None


class Event(msgspec.Struct):
    """One event of any type; which fields it has depends on `type`."""

    type: str
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _WireUsage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Event).decode


def decode_event(data: bytes) -> Event:
    """Raises ModelProtocolError for anything that is not an event."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelProtocolError("the model sent something that is not a message event") from None


class AnthropicAccumulator(Accumulator):
    """Blocks are told apart by index. What the model thought is not for anybody's eyes, but goes back with the first
    call that came of it (`ModelToolCall.signature`)."""

    __slots__ = ("_blocks", "_counts", "_thoughts")

    def __init__(self, on_delta: DeltaSink | None) -> None:
        super().__init__(on_delta)
        self._blocks: dict[int, OpenCall] = {}
        self._thoughts: dict[int, dict[str, str]] = {}
        self._counts: dict[str, int] = {}

    def take(self, data: bytes) -> bool:
        event = decode_event(data)
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._add_delta(event.index, event.delta)
            case "content_block_start":
                if event.content_block is not None:
                    self._start_block(event.index, event.content_block)
            case "content_block_stop":
                self._stop_block(event.index)
            case "message_start":
                if event.message is not None and event.message.usage is not None:
                    self._add_usage(event.message.usage)
            case "message_delta":
                if event.usage is not None:
                    self._add_usage(event.usage)
                if event.delta is not None and event.delta.stop_reason:
                    self.finish_reason = _FINISH.get(event.delta.stop_reason, "stop")
            case "message_stop":
                self.finish_reason = self.finish_reason or "stop"
                return True
            case "error":
                raise error_in_stream(event.error)
            case _:
                pass  # `ping`, and what Anthropic may add: its versioning policy asks to expect more.
        return False

    def _add_delta(self, index: int, delta: _Delta) -> None:
        match delta.type:
            case "text_delta":
                if delta.text:
                    self.add_text(delta.text)
            case "input_json_delta":
                if delta.partial_json and (call := self._blocks.get(index)) is not None:
                    self.add_arguments(call, delta.partial_json)
            case "thinking_delta" | "signature_delta":
                if (thought := self._thoughts.get(index)) is not None:
                    thought["thinking"] += delta.thinking
                    thought["signature"] += delta.signature
                    self._count(len(delta.thinking) + len(delta.signature))
            case _:
                pass

    def _start_block(self, index: int, block: _Block) -> None:
        if block.type == "tool_use":
            call = self._blocks[index] = self.open_call(block.id, block.name)
            if self._thoughts:
                call.signature = self._take_thoughts()
            # The arguments follow as deltas; servers that imitate the API give them at once instead.
            if (whole := bytes(block.input)) not in (b"", b"{}", b"null"):
                self.add_arguments(call, whole.decode())
        elif block.type == "text" and block.text:
            self.add_text(block.text)
        elif block.type == "thinking":
            self._thoughts[index] = {"type": "thinking", "thinking": "", "signature": ""}
        elif block.type == "redacted_thinking":
            self._thoughts[index] = {"type": "redacted_thinking", "data": block.data}
            self._count(len(block.data))

    def _stop_block(self, index: int) -> None:
        # A tool without parameters is called with no delta at all.
        call = self._blocks.get(index)
        if call is not None and not call.arguments:
            call.arguments.append("{}")

    def _take_thoughts(self) -> str:
        thoughts = [thought for _, thought in sorted(self._thoughts.items())]
        self._thoughts.clear()
        return signed("anthropic", msgspec.json.encode(thoughts).decode())

    def _add_usage(self, usage: _WireUsage) -> None:
        """Counts are running totals; those of the input come first and need not come again. What was read from or
        written to the cache is left out of `input_tokens`, unlike with the other wires."""
        for name in _WireUsage.__struct_fields__:
            if (count := getattr(usage, name)) is not None:
                self._counts[name] = count
        counts = self._counts
        cached = counts.get("cache_read_input_tokens", 0)
        read = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
        self.usage = Usage(read, counts.get("output_tokens", 0), cached)
