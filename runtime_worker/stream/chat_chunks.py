"""A run as OpenAI's stream of `chat.completion.chunk`: the visible answer, how it ended, and what it used."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import TokenUsage
from runtime_worker.stream.story import ToldEvent
from shared.errors import RunCancelled, error_for
from shared.openai_errors import DONE, error_in_stream

_encode = msgspec.json.Encoder(enc_hook=str).encode


def completion_id(run_id: UUID) -> str:
    return f"chatcmpl-{run_id.hex}"


def usage_of(usage: TokenUsage) -> dict[str, Any]:
    """OpenAI's names for what a run used."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class ChatChunks:
    """Implements `Dialect`. `with_usage`: the client asked for a last chunk that holds the usage and no choice."""

    def __init__(self, run_id: UUID, *, model: str, created: datetime, with_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id(run_id),
            "object": "chat.completion.chunk",
            "created": int(created.timestamp()),
            "model": model,
        }
        self._with_usage = with_usage
        before, _, after = self._choice({"content": "\0"}, None).partition(b'"\\u0000"')
        self._before, self._after = before, after

    def message(self, content: str) -> bytes:
        return b"%b%b%b" % (self._before, _encode(content), self._after)

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        if name == "error":
            return error_in_stream(error_for(data["code"], data["message"]))
        if name != "metadata":
            return b""
        if not data.get("final"):
            return self._choice({"role": "assistant", "content": ""}, None)
        if data["status"] != "completed":
            return error_in_stream(RunCancelled())
        usage = b""
        if self._with_usage:
            used = msgspec.convert(data["usage"], TokenUsage)
            usage = b"data: " + _encode({**self._head, "choices": [], "usage": usage_of(used)}) + b"\n\n"
        return self._choice({}, "stop") + usage + DONE

    def retold(self, events: tuple[ToldEvent, ...]) -> Iterator[bytes]:
        """The same for events that were told before."""
        for event in events:
            data = msgspec.json.decode(event.data)
            yield self.message(data["content"]) if event.name == "message" else self.event(event.name, data)

    def _choice(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._with_usage else {}
        return b"data: " + _encode({**self._head, "choices": [choice], **usage}) + b"\n\n"
