"""Gemini's generateContent, as the scripted model server reads and writes it."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tests.fakes.model_steps import Step, ToolCalls, call_id_of, form_of, function, json_text, sse

REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


CHOICES = {None: None, "AUTO": "auto", "NONE": "none", "ANY": "required"}


class GeminiDialect:
    def __init__(self, path: str, body: dict[str, Any]) -> None:
        self._body = body
        self.model = unquote(path.rpartition("/")[2].partition(":")[0])
        self.is_stream = ":streamGenerateContent" in path

    @property
    def asked(self) -> dict[str, Any]:
        generation = self._body.get("generationConfig", {})
        calling = self._body.get("toolConfig", {}).get("functionCallingConfig", {})
        asked = {
            "model": self.model,
            "messages": self._messages(),
            "temperature": generation.get("temperature"),
            "max_tokens": generation.get("maxOutputTokens"),
            "tools": [
                function(declared["name"], declared["description"], declared["parametersJsonSchema"])
                for tool in self._body.get("tools", [])
                for declared in tool["functionDeclarations"]
            ],
            "tool_choice": calling.get("allowedFunctionNames") or CHOICES[calling.get("mode")],
            "response_format": form_of(generation.get("responseJsonSchema")),
        }
        return {key: value for key, value in asked.items() if value is not None and value != []}

    def _messages(self) -> list[dict[str, Any]]:
        instruction = self._body.get("systemInstruction")
        messages: list[dict[str, Any]] = []
        if instruction:
            messages.append({"role": "system", "content": "".join(part["text"] for part in instruction["parts"])})
        for content in self._body.get("contents", []):
            messages += _plain("assistant" if content.get("role") == "model" else "user", content["parts"])
        return messages

    def opening(self, step: Step) -> bytes:
        return b""

    def text(self, content: str) -> bytes:
        return self._chunk([{"text": content}], None)

    def tool_calls(self, part: ToolCalls) -> Iterator[bytes]:
        """Calls come whole; of several made at once the first is signed."""
        for position, call in enumerate(part.calls):
            yield self._chunk([_call_part(call, position)], None)

    def ending(self, step: Step) -> Iterator[bytes]:
        yield self._chunk([{"text": ""}], step)

    def whole(self, step: Step) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": step.text}] if step.text else []
        parts += [_call_part(call, position) for position, call in enumerate(step.calls)]
        return self._response(parts, step)

    def _chunk(self, parts: list[dict[str, Any]], step: Step | None) -> bytes:
        # Google ends its lines as the mail does.
        return sse(self._response(parts, step))[:-2] + b"\r\n\r\n"

    def _response(self, parts: list[dict[str, Any]], step: Step | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        response: dict[str, Any] = {"candidates": [candidate], "modelVersion": self.model, "responseId": "r1"}
        if step is not None:
            candidate["finishReason"] = REASONS.get(step.reason(), step.reason())
            if step.usage is not None:
                response["usageMetadata"] = {
                    "promptTokenCount": step.usage["prompt_tokens"],
                    "candidatesTokenCount": step.usage["completion_tokens"],
                    "totalTokenCount": step.usage["total_tokens"],
                    "cachedContentTokenCount": step.usage["prompt_tokens_details"]["cached_tokens"],
                }
        return response


def _call_part(call: tuple[Any, ...], position: int) -> dict[str, Any]:
    arguments = json.loads(json_text(call[1]) or "{}")
    part: dict[str, Any] = {"functionCall": {"id": call_id_of(call, position), "name": call[0], "args": arguments}}
    if position == 0:
        part["thoughtSignature"] = "c2lnbmVk"
    return part


def _plain(role: str, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One content in OpenAI's words: results are messages of their own there."""
    messages: list[dict[str, Any]] = [
        {
            "role": "tool",
            "content": part["functionResponse"]["response"]["result"],
            "tool_call_id": part["functionResponse"].get("id"),
        }
        for part in parts
        if "functionResponse" in part
    ]
    said = "".join(part.get("text", "") for part in parts)
    calls = [
        {
            "id": part["functionCall"].get("id"),
            "type": "function",
            "function": {
                "name": part["functionCall"]["name"],
                "arguments": json.dumps(part["functionCall"]["args"]),
            },
        }
        for part in parts
        if "functionCall" in part
    ]
    if calls:
        messages.append({"role": role, "content": said or None, "tool_calls": calls})
    elif said:
        messages.append({"role": role, "content": said})
    return messages
