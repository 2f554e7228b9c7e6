"""What the rest of the worker knows of a model: messages in, one whole answer out, text deltas on the way."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from shared.frameworks import Provider

MessageRole = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]


class ModelToolCall(msgspec.Struct, frozen=True):
    """A call a model asks for. `arguments` is the JSON text exactly as the model wrote it; it may not parse.

    `signature` is what its provider wants to see again with the call while a turn goes on: the sealed reasoning that
    led to it. It begins with the wire that wrote it; others leave it out.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


class ModelMessage(msgspec.Struct, frozen=True):
    """One message of a conversation in the wire vocabulary. `tool_call_id` belongs to role `tool` only."""

    role: MessageRole
    content: str
    tool_calls: tuple[ModelToolCall, ...] = ()
    tool_call_id: str | None = None


class ModelTool(msgspec.Struct, frozen=True):
    """A function offered to a model. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one or more model calls. `is_estimated` when a provider gave no count of its own."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    is_estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.is_estimated or other.is_estimated,
        )


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `timeout_seconds` bounds the whole call; `response_schema` asks for structured output.

    `begin_within_seconds` bounds the time until the answer begins, retries included; None leaves it all of the time.
    `on_broken_off` is told what a call used whose model had taken it and whose answer was not taken to its end.
    """

    messages: Sequence[ModelMessage]
    tools: Sequence[ModelTool] = ()
    tool_choice: Literal["auto", "none", "required"] | str = "auto"
    parallel_tool_calls: bool = True
    temperature: float | None = None
    max_tokens: int | None = None
    response_schema: dict[str, Any] | None = None
    timeout_seconds: float = 60.0
    begin_within_seconds: float | None = None
    on_broken_off: "BrokenOff | None" = None


class AnsweredBy(msgspec.Struct, frozen=True):
    """The model that an answer is of, and whose."""

    provider: Provider
    model_name: str


class ModelAnswer(msgspec.Struct, frozen=True):
    """The finished message of one call. `answered_by` is there when it was not the client's own model that gave it."""

    content: str
    tool_calls: tuple[ModelToolCall, ...]
    finish_reason: FinishReason
    usage: Usage
    answered_by: AnsweredBy | None = None


BrokenOff = Callable[[Usage, AnsweredBy | None], None]
"""Takes an estimate, and whose it was when it was not the client's own model."""

DeltaSink = Callable[[str], None]
"""Takes text as it arrives, in order. It never waits: the short way from the model's socket to the client's."""


class ModelClient(Protocol):
    """A credential on a provider with a model name. Shared by every instance of one organization that uses it."""

    @property
    def model_name(self) -> str: ...

    async def complete(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelAnswer:
        """Stream one completion, handing text to `on_delta` as it arrives, and return the whole answer.

        Cancelling the awaiting task closes the upstream socket. Raises a subclass of shared.errors.ModelError.
        """
        ...
