"""A ModelRequest as the JSON body of Anthropic's messages API."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime_worker.models.anthropic_models import may_be_made_to_call, takes_sampling
from runtime_worker.models.base import ModelMessage, ModelRequest, ModelTool
from runtime_worker.models.turns import NUDGE, arguments_object, merged, own_signature, system_text
from shared.model_options import ModelOptions

DEFAULT_MAX_TOKENS = 16_384
"""The API wants a limit. Every model since Claude 4 takes this one, and what a model thinks counts as well."""
WIRE = "anthropic"
_encode = msgspec.json.Encoder().encode


def encode_body(request: ModelRequest, model_name: str, options: ModelOptions) -> bytes:
    """What is posted. Parameters that nobody set are left out, and those that the model would refuse."""
    body: dict[str, Any] = {
        "model": model_name,
        "max_tokens": request.max_tokens if request.max_tokens is not None else DEFAULT_MAX_TOKENS,
        "messages": _messages(request.messages),
        "stream": True,
    }
    if system := system_text(request.messages):
        body["system"] = system
    _add_tools(body, request, model_name)
    if takes_sampling(model_name):
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if options.top_p is not None:
            body["top_p"] = options.top_p
    if options.service_tier is not None:
        body["service_tier"] = options.service_tier
    output: dict[str, Any] = {}
    if options.reasoning_effort is not None:
        output["effort"] = options.reasoning_effort
    if request.response_schema is not None:
        output["format"] = {"type": "json_schema", "schema": request.response_schema}
    if output:
        body["output_config"] = output
    return _encode(body)


def _add_tools(body: dict[str, Any], request: ModelRequest, model_name: str) -> None:
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request, model_name)
        return
    # Where the history has calls the API wants to know their tools, also from a model that may not call any.
    called = {call.name: None for message in request.messages for call in message.tool_calls}
    if called:
        body["tools"] = [_tool(ModelTool(name, "", {"type": "object"})) for name in called]
        body["tool_choice"] = {"type": "none"}


def _messages(messages: Sequence[ModelMessage]) -> list[dict[str, Any]]:
    turns = merged((("assistant" if m.role == "assistant" else "user", _blocks(m)) for m in messages), first="user")
    # The end of an assistant turn would be something to go on writing, which newer models refuse.
    if turns[-1][0] == "assistant":
        turns.append(("user", [_text(NUDGE)]))
    return [{"role": role, "content": blocks or [_text(NUDGE)]} for role, blocks in turns]


def _blocks(message: ModelMessage) -> list[dict[str, Any]]:
    if message.role == "system":
        return []
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}]
    blocks = [_text(message.content)] if message.content.strip() else []
    for position, call in enumerate(message.tool_calls):
        if thoughts := own_signature(call, WIRE):
            # What led to the first call came before the text, too.
            at = 0 if position == 0 else len(blocks)
            blocks[at:at] = msgspec.json.decode(thoughts)
        use = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_object(call.arguments)}
        blocks.append(use)
    return blocks


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tool(tool: ModelTool) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **tool.parameters}}
    if tool.description:
        wire["description"] = tool.description
    return wire


def _tool_choice(request: ModelRequest, model_name: str) -> dict[str, Any]:
    if request.tool_choice == "none":
        return {"type": "none"}
    choice: dict[str, Any]
    if request.tool_choice == "auto" or not may_be_made_to_call(model_name):
        choice = {"type": "auto"}
    elif request.tool_choice == "required":
        choice = {"type": "any"}
    else:
        choice = {"type": "tool", "name": request.tool_choice}
    if not request.parallel_tool_calls:
        choice["disable_parallel_tool_use"] = True
    return choice
