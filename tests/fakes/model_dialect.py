"""The wire formats that the scripted model server speaks; the path of a call says which."""

from collections.abc import Iterator
from typing import Any, Protocol

from tests.fakes.anthropic_dialect import AnthropicDialect
from tests.fakes.gemini_dialect import GeminiDialect
from tests.fakes.model_steps import Step, ToolCalls
from tests.fakes.openai_dialect import OpenAIDialect


class Dialect(Protocol):
    """One request and its answer in one wire format. What is asked reads in OpenAI's words, whoever asked it."""

    @property
    def model(self) -> str: ...
    @property
    def is_stream(self) -> bool: ...
    @property
    def asked(self) -> dict[str, Any]:
        """The body as OpenAI would have been sent it: messages, tools, choices and limits."""
        ...

    def opening(self, step: Step) -> bytes:
        """What comes before the first part; may be nothing."""
        ...

    def text(self, content: str) -> bytes: ...
    def tool_calls(self, part: ToolCalls) -> Iterator[bytes]: ...

    def ending(self, step: Step) -> Iterator[bytes]:
        """Finish reason, usage, end mark."""
        ...

    def whole(self, step: Step) -> dict[str, Any]:
        """The same answer for a caller that did not ask for a stream."""
        ...


def dialect_of(path: str, body: dict[str, Any]) -> Dialect:
    """A dialect for one call; it keeps state while it writes the answer."""
    if path.partition("?")[0].endswith("/messages"):
        return AnthropicDialect(body)
    if "enerateContent" in path:
        return GeminiDialect(path, body)
    return OpenAIDialect(body)
