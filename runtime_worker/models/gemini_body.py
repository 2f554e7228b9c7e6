"""A ModelRequest as the JSON body of Gemini's generateContent."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime_worker.models.base import ModelMessage, ModelRequest, ModelTool
from runtime_worker.models.turns import NUDGE, arguments_object, merged, own_signature, system_text
from shared.model_options import ModelOptions

WIRE = "gemini"
UNSIGNED = "skip_thought_signature_validator"
"""Google's own word for a call that has no signature, because it came from elsewhere or from an older turn. Gemini 3
and later refuse a call without one."""
_encode = msgspec.json.Encoder().encode


def encode_body(request: ModelRequest, model_name: str, options: ModelOptions) -> bytes:
    """What is posted. Parameters that nobody set are left out; the model's name is in the address."""
    wants_signatures = not any(old in model_name for old in ("gemini-1", "gemini-2"))
    body: dict[str, Any] = {"contents": _contents(request.messages, wants_signatures=wants_signatures)}
    if system := system_text(request.messages):
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        body["toolConfig"] = {"functionCallingConfig": _calling(request.tool_choice)}
    if generation := _generation(request, options):
        body["generationConfig"] = generation
    return _encode(body)


def _contents(messages: Sequence[ModelMessage], *, wants_signatures: bool) -> list[dict[str, Any]]:
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    turns = merged(
        (
            ("model" if m.role == "assistant" else "user", _parts(m, names, wants_signatures=wants_signatures))
            for m in messages
        ),
        first="user",
    )
    if turns[-1][0] == "model":
        turns.append(("user", []))
    return [{"role": role, "parts": parts or [{"text": NUDGE}]} for role, parts in turns]


def _parts(message: ModelMessage, names: dict[str, str], *, wants_signatures: bool) -> list[dict[str, Any]]:
    if message.role == "system":
        return []
    if message.role == "tool":
        call_id = message.tool_call_id or ""
        response = {"id": call_id, "name": names.get(call_id, call_id), "response": {"result": message.content}}
        return [{"functionResponse": response}]
    parts: list[dict[str, Any]] = [{"text": message.content}] if message.content else []
    for position, call in enumerate(message.tool_calls):
        args = arguments_object(call.arguments)
        part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": args}}
        # Of calls made at once only the first is signed.
        signature = own_signature(call, WIRE) or (UNSIGNED if wants_signatures and position == 0 else "")
        if signature:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _tool(tool: ModelTool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}


def _calling(choice: str) -> dict[str, Any]:
    match choice:
        case "auto":
            return {"mode": "AUTO"}
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case name:
            return {"mode": "ANY", "allowedFunctionNames": [name]}


def _generation(request: ModelRequest, options: ModelOptions) -> dict[str, Any]:
    generation: dict[str, Any] = {
        "temperature": request.temperature,
        "maxOutputTokens": request.max_tokens,
        "topP": options.top_p,
        "frequencyPenalty": options.frequency_penalty,
        "presencePenalty": options.presence_penalty,
        "seed": options.seed,
    }
    if options.reasoning_effort is not None:
        generation["thinkingConfig"] = {"thinkingLevel": options.reasoning_effort.upper()}
    if request.response_schema is not None:
        generation["responseMimeType"] = "application/json"
        generation["responseJsonSchema"] = request.response_schema
    return {name: value for name, value in generation.items() if value is not None}
