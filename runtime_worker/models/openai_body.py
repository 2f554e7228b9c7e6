"""A ModelRequest as the JSON body of an OpenAI-compatible chat completion."""

from typing import Any

import msgspec

from runtime_worker.models.base import ModelMessage, ModelRequest, ModelTool
from shared.model_options import MaxTokensParameter, ModelOptions

_encode = msgspec.json.Encoder().encode


def encode_body(
    request: ModelRequest, model_name: str, options: ModelOptions, max_tokens_parameter: MaxTokensParameter
) -> bytes:
    """What is posted. Parameters that nobody set are left out, so that the provider's defaults hold."""
    body: dict[str, Any] = {
        "model": model_name,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **options.body(),
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.tool_choice != "none":
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[max_tokens_parameter] = request.max_tokens
    if request.response_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": request.response_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return _encode(body)


def _message(message: ModelMessage) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["content"] = message.content or None
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _tool(tool: ModelTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}
