from abc import ABC, abstractmethod
from typing import Any

from cadence_sdk.types.sdk_tools import UvTool


class BaseAgent(ABC):
    """Holds tools. Made by `BasePlugin.create_agent`, then initialized once with its settings."""

    def initialize(self, config: dict[str, Any]) -> None:  # noqa: B027 - optional for authors
        """Called once before the first tool call with the effective settings (defaults filled in)."""

    @abstractmethod
    def get_tools(self) -> list[UvTool]: ...

    async def cleanup(self) -> None:  # noqa: B027 - optional for authors
        """Called once when nobody uses the agent any more: close connections and files here."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class BaseSpecializedAgent(BaseAgent):
    """An agent that can take a part of a conversation by itself and says how in a system prompt."""

    @abstractmethod
    def get_system_prompt(self) -> str: ...


class BaseScopedAgent(BaseAgent):
    """An agent for grounded conversations, which stay with one resource."""

    @abstractmethod
    async def load_anchor(self, resource_id: str) -> dict[str, Any]:
        """What is known of the resource; `{}` when there is none of that id."""
        ...

    @abstractmethod
    def build_scope_rules(self, context: dict[str, Any]) -> str:
        """What the conversation may be about, given what `load_anchor` returned."""
        ...
