"""The part of the chat completions wire format that the demo model reads, and one view of a conversation."""

import re
from typing import Any, Literal

import msgspec

_WRAPPED = re.compile(r"\A\s*<([\w-]+)[^<>]*>\s*(.*?)\s*</\1>\s*\Z", re.S)
"""A tool result that came between tags, as data."""
_REPORT = re.compile(r'<report agent="([^"]*)"[^<>]*>\s*(.*?)\s*</report>', re.S)
_TASK = re.compile(r"<task>\s*(.*?)\s*</task>", re.S)


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
    """The messages by what they are good for. `turn_calls` and `results` are those after the last user message.

    `reports` are what other agents said they found, as `(agent, text)`; a `question` may be the task that one of them
    was given. `was_transferred` when a colleague handed the turn over; that is no result of a tool.
    """

    instructions: str
    question: str
    earlier: tuple[Message, ...]
    turn_calls: tuple[FunctionCall, ...]
    results: tuple[ToolResult, ...]
    reports: tuple[tuple[str, str], ...] = ()
    was_transferred: bool = False


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
        if m.role in ("tool", "function") and not is_transfer(calls.get(m.tool_call_id or ""))
    )
    asked, task, reports = _asked(messages, last_user)
    return Conversation(
        instructions="\n\n".join(m.text for m in messages if m.role in ("system", "developer")),
        question=task or (messages[asked].text if asked < len(messages) else ""),
        earlier=tuple(m for m in messages[:asked] if m.role not in ("system", "developer")),
        turn_calls=tuple(call for call in calls.values() if not is_transfer(call)),
        results=results,
        reports=reports,
        was_transferred=any(is_transfer(call) for call in calls.values()),
    )


def is_transfer(call: "FunctionCall | Function | None") -> bool:
    """Whether a function hands the conversation to a colleague."""
    return call is not None and call.name.startswith("transfer_to_")


def _asked(messages: tuple[Message, ...], last: int) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    """Where the user's own message is, and the task and reports that a coordinator put behind it.

    Only what stands behind another user message is read so: a user may write tags as well.
    """
    task, reports = "", ()
    while 0 < last < len(messages) and messages[last - 1].role == "user":
        text = messages[last].text
        if given := _TASK.search(text):
            task = given[1]
        elif found := _REPORT.findall(text):
            reports = tuple(found)
        else:
            break
        last -= 1
    return last, task, reports


def _unwrapped(content: str) -> str:
    wrapped = _WRAPPED.match(content)
    return wrapped[2] if wrapped else content
