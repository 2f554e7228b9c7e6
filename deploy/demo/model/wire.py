"""The part of the chat completions wire format that the demo model reads, and one view of a conversation."""

import re
from typing import Any, Literal

import msgspec

_WRAPPED = re.compile(r"\A\s*<([\w-]+)[^<>]*>\s*(.*?)\s*</\1>\s*\Z", re.S)
"""A tool result that came between tags, as data."""


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str = "{}"


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True):
    """One message as sent; `content` is text, a list of parts, or nothing beside tool calls."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type", "text") == "text")
        return self.content or ""


class Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, frozen=True):
    function: Function
    type: Literal["function"] = "function"


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True):
    """A request body. Parameters that would only steer sampling are accepted and change nothing."""

    messages: tuple[Message, ...]
    model: str = "demo"
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class ToolResult(msgspec.Struct, frozen=True):
    """What one tool answered in this turn."""

    tool: str
    arguments: str
    content: str


class Conversation(msgspec.Struct, frozen=True):
    """The messages by what they are good for. `turn_calls` and `results` are those after the last user message."""

    instructions: str
    question: str
    earlier: tuple[Message, ...]
    turn_calls: tuple[FunctionCall, ...]
    results: tuple[ToolResult, ...]


def view(messages: tuple[Message, ...]) -> Conversation:
    """Sort the messages of a request into a Conversation."""
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=len(messages))
    turn = messages[last_user + 1 :]
    calls = {call.id: call.function for m in turn for call in m.tool_calls or ()}
    results = tuple(
        ToolResult(
            tool=call.name if (call := calls.get(m.tool_call_id or "")) else m.name or "tool",
            arguments=call.arguments if call else "{}",
            content=_unwrapped(m.text),
        )
        for m in turn
        if m.role in ("tool", "function")
    )
    return Conversation(
        instructions="\n\n".join(m.text for m in messages if m.role in ("system", "developer")),
        question=messages[last_user].text if last_user < len(messages) else "",
        earlier=tuple(m for m in messages[:last_user] if m.role not in ("system", "developer")),
        turn_calls=tuple(calls.values()),
        results=results,
    )


def _unwrapped(content: str) -> str:
    wrapped = _WRAPPED.match(content)
    return wrapped[2] if wrapped else content
