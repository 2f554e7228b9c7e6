"""Messages of a conversation, independent of any framework."""

import uuid
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Content = str | list[dict[str, Any]]
Role = Literal["human", "ai", "system", "tool", "context"]


def _new_id() -> str:
    return str(uuid.uuid4())


class ToolCall(BaseModel):
    """A call that a model asks for."""

    id: str = Field(default_factory=_new_id)
    name: str
    args: dict[str, Any] = Field(default_factory=dict)


class UvMessage(BaseModel):
    """`content` is text, or a list of parts such as `{"type": "text", "text": "…"}`."""

    model_config = ConfigDict(extra="ignore")

    role: Role
    content: Content = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    message_id: str = Field(default_factory=_new_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-able values."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `to_dict`. `UvMessage.from_dict` picks the class by `role`."""
        kind = _BY_ROLE.get(data.get("role", "")) if cls is UvMessage else None
        return (kind or cls).model_validate(data)  # type: ignore[return-value]  # every kind is a UvMessage


class UvHumanMessage(UvMessage):
    role: Literal["human"] = "human"


class UvAIMessage(UvMessage):
    """`tool_calls` takes dicts too."""

    role: Literal["ai"] = "ai"
    tool_calls: list[ToolCall] = Field(default_factory=list)


class UvSystemMessage(UvMessage):
    role: Literal["system"] = "system"


class UvToolMessage(UvMessage):
    """What a tool answered to the call `tool_call_id`."""

    role: Literal["tool"] = "tool"
    tool_call_id: str
    tool_name: str


class UvContextMessage(UvMessage):
    """The resource that a grounded conversation is about."""

    role: Literal["context"] = "context"
    resource_id: str
    data: dict[str, Any] = Field(default_factory=dict)


_BY_ROLE: dict[str, type[UvMessage]] = {
    "human": UvHumanMessage,
    "ai": UvAIMessage,
    "system": UvSystemMessage,
    "tool": UvToolMessage,
    "context": UvContextMessage,
}
