"""How the pieces of a streamed answer add up, whatever wire they came over."""

import msgspec

from runtime_worker.models.base import DeltaSink, FinishReason, ModelAnswer, ModelRequest, ModelToolCall, Usage
from shared.errors import ModelProtocolError

MAX_ANSWER_CHARS = 1024 * 1024
"""Twice what the most talkative models write, and little enough to be kept for many runs at once."""
CHARS_PER_DELTA = 2
"""What a delta counts besides its text: each becomes an event, which waits in memory for a slow client."""
MAX_TOOL_CALLS = 128


class OpenCall:
    """A tool call whose arguments are still arriving."""

    __slots__ = ("arguments", "id", "name", "signature")

    def __init__(self, call_id: str = "", name: str = "") -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []
        self.signature = ""


class Accumulator:
    """Adds pieces up and hands text on at once. One per call; each wire has its own `take`."""

    __slots__ = ("_calls", "_chars", "_on_delta", "_texts", "finish_reason", "is_taken", "usage")

    def __init__(self, on_delta: DeltaSink | None) -> None:
        self._on_delta = on_delta
        self._texts: list[str] = []
        self._chars = 0
        self._calls: list[OpenCall] = []
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self.is_taken = False
        """Whether the provider has taken the request."""

    def take(self, data: bytes) -> bool:
        """Add one event; True when the stream says that it is done. Raises ModelError."""
        raise NotImplementedError

    def add_text(self, text: str) -> None:
        """Raises ModelProtocolError when the answer outgrows its bounds."""
        self._texts.append(text)
        if self._on_delta is not None:
            self._on_delta(text)
        # Written out, not called: this runs once per token.
        self._chars += len(text) + CHARS_PER_DELTA
        if self._chars > MAX_ANSWER_CHARS:
            raise ModelProtocolError("the model's answer is too long")

    def open_call(self, call_id: str, name: str) -> OpenCall:
        """A further tool call. Raises ModelProtocolError when there are too many."""
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise ModelProtocolError("the model asked for too many tool calls at once")
        call = OpenCall(call_id, name)
        self._calls.append(call)
        self._count(len(name))
        return call

    def add_arguments(self, call: OpenCall, piece: str) -> None:
        call.arguments.append(piece)
        self._count(len(piece))

    def answer(self, request: ModelRequest) -> ModelAnswer:
        """The whole answer. Without a count from the provider, usage is estimated and says so."""
        content = "".join(self._texts)
        calls = tuple(
            ModelToolCall(call.id or f"call_{position}", call.name, "".join(call.arguments), call.signature)
            for position, call in enumerate(self._calls)
        )
        usage = self.usage or self._estimate(request)
        # Some servers say "stop" although they call tools.
        reason: FinishReason = self.finish_reason or "stop"
        if calls and reason == "stop":
            reason = "tool_calls"
        return ModelAnswer(content, calls, reason, usage)

    def usage_until_now(self, request: ModelRequest) -> Usage:
        """An estimate of what an answer took that breaks off here."""
        said, written = self.usage or Usage(), self._estimate(request)
        return Usage(
            said.input_tokens or written.input_tokens,
            max(said.output_tokens, written.output_tokens),
            said.cached_tokens,
            is_estimated=True,
        )

    def _estimate(self, request: ModelRequest) -> Usage:
        written = sum(map(len, self._texts)) + sum(
            len(call.name) + sum(map(len, call.arguments)) for call in self._calls
        )
        return Usage(_estimate_input_tokens(request), estimate_tokens(written), 0, is_estimated=True)

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_ANSWER_CHARS:
            raise ModelProtocolError("the model's answer is too long")


def estimate_tokens(chars: int) -> int:
    """Four characters a token: OpenAI's own rule of thumb for English; only used where a provider counts nothing."""
    return (chars + 3) // 4


def _estimate_input_tokens(request: ModelRequest) -> int:
    chars = sum(len(m.content) + sum(len(c.arguments) for c in m.tool_calls) for m in request.messages)
    return estimate_tokens(chars + sum(len(msgspec.json.encode(tool.parameters)) for tool in request.tools))
