"""Anthropic's messages API, as the scripted model server reads and writes it."""

import json
from collections.abc import Iterator
from typing import Any

from runtime_worker.models.anthropic_body import DEFAULT_MAX_TOKENS
from tests.fakes.model_steps import Step, ToolCalls, call_id_of, form_of, function, json_text, sse

REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}


CHOICES = {None: None, "auto": "auto", "none": "none", "any": "required"}


class AnthropicDialect:
    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.model = str(body.get("model", ""))
        self.is_stream = bool(body.get("stream"))
        self._index = -1
        self._is_text_open = False

    @property
    def asked(self) -> dict[str, Any]:
        body, choice = self._body, self._body.get("tool_choice", {})
        limit = body.get("max_tokens")
        asked = {
            "model": body.get("model"),
            "messages": self._messages(),
            "temperature": body.get("temperature"),
            "max_tokens": None if limit == DEFAULT_MAX_TOKENS else limit,
            "tools": [function(t["name"], t.get("description", ""), t["input_schema"]) for t in body.get("tools", [])],
            "tool_choice": CHOICES.get(choice.get("type"), choice),
            "parallel_tool_calls": not choice.get("disable_parallel_tool_use") if choice else None,
            "response_format": form_of(body.get("output_config", {}).get("format", {}).get("schema")),
        }
        return {key: value for key, value in asked.items() if value is not None and value != []}

    def _messages(self) -> list[dict[str, Any]]:
        system = self._body.get("system")
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for message in self._body.get("messages", []):
            messages += _plain(message["role"], message["content"])
        return messages

    def opening(self, step: Step) -> bytes:
        return _event("message_start", message=self._message([], step, None))

    def text(self, content: str) -> bytes:
        start = b"" if self._is_text_open else self._close() + self._open({"type": "text", "text": ""})
        self._is_text_open = True
        return start + self._delta({"type": "text_delta", "text": content})

    def tool_calls(self, part: ToolCalls) -> Iterator[bytes]:
        for position, call in enumerate(part.calls):
            use = {"type": "tool_use", "id": call_id_of(call, position), "name": call[0], "input": {}}
            yield self._close() + self._open(use)
            arguments = json_text(call[1])
            # The first delta is always an empty one.
            for at in range(-part.piece_chars, len(arguments), part.piece_chars):
                piece = arguments[at : at + part.piece_chars] if at >= 0 else ""
                yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def ending(self, step: Step) -> Iterator[bytes]:
        usage = {"output_tokens": step.usage["completion_tokens"]} if step.usage is not None else None
        delta = {"stop_reason": REASONS.get(step.reason(), step.reason()), "stop_sequence": None}
        yield self._close() + _event("message_delta", delta=delta, usage=usage)
        yield _event("message_stop")

    def whole(self, step: Step) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": step.text}] if step.text else []
        for position, call in enumerate(step.calls):
            arguments = json.loads(json_text(call[1]))
            content.append({"type": "tool_use", "id": call_id_of(call, position), "name": call[0], "input": arguments})
        return self._message(content, step, REASONS.get(step.reason(), step.reason()))

    def _open(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bytes:
        """End the open block, if there is one."""
        self._is_text_open = False
        return _event("content_block_stop", index=self._index) if self._index >= 0 else b""

    def _message(self, content: list[dict[str, Any]], step: Step, stop_reason: str | None) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
        }
        if step.usage is not None:
            cached = step.usage["prompt_tokens_details"]["cached_tokens"]
            message["usage"] = {
                "input_tokens": step.usage["prompt_tokens"] - cached,
                "cache_read_input_tokens": cached,
                "cache_creation_input_tokens": 0,
                "output_tokens": step.usage["completion_tokens"] if stop_reason else 1,
            }
        return message


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\n".encode() + sse({"type": kind, **fields})


def _plain(role: str, content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One message in OpenAI's words: results are messages of their own there."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    messages: list[dict[str, Any]] = [
        {"role": "tool", "content": block["content"], "tool_call_id": block["tool_use_id"]}
        for block in blocks
        if block["type"] == "tool_result"
    ]
    said = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"])},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if calls:
        messages.append({"role": role, "content": said or None, "tool_calls": calls})
    elif said:
        messages.append({"role": role, "content": said})
    return messages
