"""Between our messages and ADK's contents, both ways."""

import json
from collections.abc import Sequence
from typing import Any

from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from runtime_worker.engines.tool_calls import parse_arguments
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelTool, ModelToolCall

RESULT = "result"
"""Where a function response holds a text, by ADK's own convention for tools that return no dictionary."""


class WrittenCall(types.FunctionCall):
    """A function call with what ADK has no room for: arguments as the model wrote them, which may be no JSON at all,
    and its provider's signature."""

    written: ModelToolCall | None = None


def to_contents(messages: Sequence[ModelMessage]) -> list[types.Content]:
    """Everything but system messages, which are not contents in this framework."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_to_content(message, names) for message in messages if message.role != "system"]


def system_text(messages: Sequence[ModelMessage]) -> str:
    return "\n\n".join(message.content for message in messages if message.role == "system")


def from_contents(contents: Sequence[types.Content]) -> list[ModelMessage]:
    return [message for content in contents for message in _from_content(content)]


def messages_of(request: LlmRequest) -> list[ModelMessage]:
    """What a request says to the model, the system instruction first."""
    system = request.config.system_instruction
    first = [ModelMessage("system", system)] if isinstance(system, str) and system else []
    return [*first, *from_contents(request.contents)]


def tools_of(request: LlmRequest) -> tuple[ModelTool, ...]:
    return tuple(
        ModelTool(declaration.name or "", declaration.description or "", declaration.parameters_json_schema or {})
        for tool in request.config.tools or ()
        if isinstance(tool, types.Tool)
        for declaration in tool.function_declarations or ()
    )


def answer_response(answer: ModelAnswer) -> LlmResponse:
    """A model's whole answer as the framework sees it."""
    usage = answer.usage
    counted = {
        "prompt_token_count": usage.input_tokens,
        "candidates_token_count": usage.output_tokens,
        "total_token_count": usage.input_tokens + usage.output_tokens,
        "cached_content_token_count": usage.cached_tokens,
    }
    content = _to_content(ModelMessage("assistant", answer.content, answer.tool_calls), {})
    return LlmResponse(content=content, usage_metadata=_USAGE.model_copy(update=counted))


def text_of(content: types.Content | None) -> str:
    return "".join(part.text or "" for part in (content.parts if content else None) or ())


def tool_calls_of(content: types.Content | None) -> tuple[ModelToolCall, ...]:
    parts = (content.parts if content else None) or ()
    return tuple(_from_call(part.function_call) for part in parts if part.function_call)


def _to_content(message: ModelMessage, names: dict[str, str]) -> types.Content:
    match message.role:
        case "tool":
            call_id = message.tool_call_id or ""
            named = {"id": call_id, "name": names.get(call_id, "")}
            response = _RESPONSE.model_copy(update={**named, "response": {RESULT: message.content}})
            return _content("user", [_part(function_response=response)])
        case "assistant":
            said = [_part(text=message.content)] if message.content else []
            called = [_part(function_call=_to_call(call)) for call in message.tool_calls]
            return _content("model", [*said, *called])
        case _:
            return _content("user", [_part(text=message.content)])


# Whole conversations are made for every call, of values whose types are known: a copy costs a fifth of a validated one.
_PART, _CONTENT = types.Part(), types.Content()
_CALL, _RESPONSE = WrittenCall(), types.FunctionResponse()
_USAGE = types.GenerateContentResponseUsageMetadata()


def _part(**values: Any) -> types.Part:
    return _PART.model_copy(update=values)


def _content(role: str, parts: list[types.Part]) -> types.Content:
    return _CONTENT.model_copy(update={"role": role, "parts": parts})


def _from_content(content: types.Content) -> list[ModelMessage]:
    results = [part.function_response for part in content.parts or () if part.function_response]
    if results:
        return [ModelMessage("tool", _result_text(result), tool_call_id=result.id) for result in results]
    if content.role == "model":
        return [ModelMessage("assistant", text_of(content), tool_calls_of(content))]
    return [ModelMessage("user", text_of(content))]


def _to_call(call: ModelToolCall) -> WrittenCall:
    arguments = parse_arguments(call.arguments) or {}
    return _CALL.model_copy(update={"id": call.id, "name": call.name, "args": arguments, "written": call})


def _from_call(call: types.FunctionCall) -> ModelToolCall:
    if isinstance(call, WrittenCall) and call.written is not None:
        return call.written
    return ModelToolCall(call.id or "", call.name or "", json.dumps(call.args or {}, ensure_ascii=False))


def _result_text(result: types.FunctionResponse) -> str:
    response = result.response or {}
    text = response.get(RESULT)
    return text if isinstance(text, str) else json.dumps(response, ensure_ascii=False)
