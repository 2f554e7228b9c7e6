"""OpenAI's chat completions, as the scripted model server reads and writes them."""

from collections.abc import Iterator
from typing import Any

from tests.fakes.model_steps import Step, ToolCalls, call_id_of, chunk, json_text, sse


class OpenAIDialect:
    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.model = str(body.get("model", ""))
        self.is_stream = bool(body.get("stream"))

    @property
    def asked(self) -> dict[str, Any]:
        return self._body

    def opening(self, step: Step) -> bytes:
        return sse(chunk(self.model, {"role": "assistant", "content": ""}))

    def text(self, content: str) -> bytes:
        return sse(chunk(self.model, {"content": content}))

    def tool_calls(self, part: ToolCalls) -> Iterator[bytes]:
        """First every call's id and name, then the pieces of arguments in turns, as providers interleave them."""
        texts = [json_text(call[1]) for call in part.calls]
        for index, call in enumerate(part.calls):
            function = {"name": call[0], "arguments": ""}
            opening = {"index": index, "id": call_id_of(call, index), "type": "function", "function": function}
            yield self._delta({"tool_calls": [opening]})
        for start in range(0, max((len(text) for text in texts), default=0), part.piece_chars):
            for index, text in enumerate(texts):
                if piece := text[start : start + part.piece_chars]:
                    yield self._delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def ending(self, step: Step) -> Iterator[bytes]:
        yield sse(chunk(self.model, {}, step.reason()))
        if step.usage is not None and self._body.get("stream_options", {}).get("include_usage"):
            yield sse(chunk(self.model, {}) | {"choices": [], "usage": dict(step.usage)})
        yield b"data: [DONE]\n\n"

    def whole(self, step: Step) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": step.text}
        if step.calls:
            message["tool_calls"] = [
                {
                    "id": call_id_of(call, index),
                    "type": "function",
                    "function": {"name": call[0], "arguments": json_text(call[1])},
                }
                for index, call in enumerate(step.calls)
            ]
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": step.reason()}],
            "usage": step.usage,
        }

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return sse(chunk(self.model, delta))
