"""Between our messages and LangChain's, both ways."""

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from runtime_worker.engines.tool_calls import parse_arguments
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelToolCall, Usage

ESTIMATED = "usage_is_estimated"
"""Key in `response_metadata`: LangChain's own usage has no room for it."""
SIGNATURES = "tool_call_signatures"
"""Key in `additional_kwargs`: what providers want to see again with a call, by the call's id."""


def to_langchain(messages: Sequence[ModelMessage]) -> list[BaseMessage]:
    return [_to_langchain(message) for message in messages]


def from_langchain(messages: Sequence[BaseMessage]) -> list[ModelMessage]:
    return [_from_langchain(message) for message in messages]


def answer_message(answer: ModelAnswer) -> AIMessage:
    """A model's whole answer as the framework sees it. Calls whose arguments do not parse are kept as invalid ones."""
    valid, invalid = _split(answer.tool_calls)
    return AIMessage(
        content=answer.content,
        tool_calls=valid,
        invalid_tool_calls=invalid,
        additional_kwargs=signature_kwargs(answer.tool_calls),
        usage_metadata=usage_metadata(answer.usage),
        response_metadata={"finish_reason": answer.finish_reason, ESTIMATED: answer.usage.is_estimated},
    )


def tool_calls_of(message: AIMessage) -> tuple[ModelToolCall, ...]:
    """Every call a message holds, the invalid ones too, with the arguments as JSON text."""
    signatures: dict[str | None, str] = message.additional_kwargs.get(SIGNATURES, {})
    valid = [
        ModelToolCall(
            call["id"] or "",
            call["name"],
            json.dumps(call["args"], ensure_ascii=False),
            signatures.get(call["id"], ""),
        )
        for call in message.tool_calls
    ]
    invalid = [
        ModelToolCall(call["id"] or "", call["name"] or "", call["args"] or "", signatures.get(call["id"], ""))
        for call in message.invalid_tool_calls
    ]
    return (*valid, *invalid)


def usage_of(message: AIMessage) -> Usage:
    usage = message.usage_metadata
    if usage is None:
        return Usage()
    return Usage(
        usage["input_tokens"],
        usage["output_tokens"],
        usage.get("input_token_details", {}).get("cache_read", 0),
        bool(message.response_metadata.get(ESTIMATED)),
    )


def usage_metadata(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )


def _to_langchain(message: ModelMessage) -> BaseMessage:
    match message.role:
        case "system":
            return SystemMessage(message.content)
        case "user":
            return HumanMessage(message.content)
        case "tool":
            return ToolMessage(message.content, tool_call_id=message.tool_call_id or "")
        case "assistant":
            valid, invalid = _split(message.tool_calls)
            return AIMessage(
                content=message.content,
                tool_calls=valid,
                invalid_tool_calls=invalid,
                additional_kwargs=signature_kwargs(message.tool_calls),
            )


def _from_langchain(message: BaseMessage) -> ModelMessage:
    content = str(message.text)  # LangChain's own subclass of str is one that no encoder takes.
    match message:
        case AIMessage():
            return ModelMessage("assistant", content, tool_calls_of(message))
        case ToolMessage():
            return ModelMessage("tool", content, tool_call_id=message.tool_call_id)
        case SystemMessage():
            return ModelMessage("system", content)
        case HumanMessage():
            return ModelMessage("user", content)
        case ChatMessage(role="system" | "user" | "assistant" as role):
            return ModelMessage(role, content)
        case _:
            raise ValueError(f"a {type(message).__name__} has no place in a chat completion")


def signature_kwargs(calls: Sequence[ModelToolCall]) -> dict[str, Any]:
    """The calls' signatures as `additional_kwargs`, which LangChain carries along unread."""
    signatures = {call.id: call.signature for call in calls if call.signature}
    return {SIGNATURES: signatures} if signatures else {}


def _split(calls: Sequence[ModelToolCall]) -> tuple[list[ToolCall], list[InvalidToolCall]]:
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        arguments = parse_arguments(call.arguments)
        if arguments is not None:
            valid.append(ToolCall(name=call.name, args=arguments, id=call.id, type="tool_call"))
        else:
            invalid.append(
                InvalidToolCall(
                    name=call.name, args=call.arguments, id=call.id, error="not a JSON object", type="invalid_tool_call"
                )
            )
    return valid, invalid
