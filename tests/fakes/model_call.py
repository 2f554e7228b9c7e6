"""One request as the scripted model server received it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.model_dialect import Dialect, dialect_of

KEY_HEADERS = ("x-api-key", "x-goog-api-key", "api-key")


@dataclass
class ModelCall:
    """One request as it arrived, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    events_sent: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def dialect(self) -> Dialect:
        """A fresh one: it keeps state while it writes an answer."""
        return dialect_of(self.path, self.body)

    @property
    def asked(self) -> dict[str, Any]:
        """The body in OpenAI's words, over whichever wire it came."""
        return self.dialect.asked

    @property
    def api_key(self) -> str:
        """The credential, from wherever the wire carries it."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return bearer or next((self.headers[name] for name in KEY_HEADERS if name in self.headers), "")

    @property
    def model(self) -> str:
        return self.dialect.model

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.asked.get("messages", [])
        return messages

    @property
    def system(self) -> str:
        """All system texts, joined."""
        return "\n".join(str(m["content"]) for m in self.messages if m["role"] == "system")

    @property
    def last_user(self) -> str:
        return next((str(m["content"]) for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def tool_names(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.asked.get("tools", [])]

    @property
    def tool_results(self) -> list[str]:
        return [str(m["content"]) for m in self.messages if m["role"] == "tool"]
