"""Messages and state."""

import json

import pytest
from cadence_sdk import (
    ToolCall,
    UvAIMessage,
    UvContextMessage,
    UvHumanMessage,
    UvMessage,
    UvState,
    UvSystemMessage,
    UvToolMessage,
)
from pydantic import ValidationError

MESSAGES: list[UvMessage] = [
    UvHumanMessage(content="hello", metadata={"user": 1}, message_id="m1"),
    UvHumanMessage(content=[{"type": "text", "text": "hello"}]),
    UvAIMessage(content="", tool_calls=[ToolCall(name="search", args={"q": "x"})]),
    UvSystemMessage(content="be kind"),
    UvToolMessage(content="42", tool_call_id="c1", tool_name="search"),
    UvContextMessage(resource_id="T-1", data={"id": "T-1"}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_json(message: UvMessage) -> None:
    wire = json.loads(json.dumps(message.to_dict()))

    assert type(message).from_dict(wire) == message
    assert UvMessage.from_dict(wire) == message


def test_roles_are_fixed_and_ids_differ() -> None:
    assert [m.role for m in MESSAGES] == ["human", "human", "ai", "system", "tool", "context"]
    assert UvHumanMessage(content="a").message_id != UvHumanMessage(content="a").message_id


def test_tool_calls_may_be_given_as_dicts() -> None:
    message = UvAIMessage.model_validate({"tool_calls": [{"name": "fetch", "args": {"url": "u"}}]})

    assert isinstance(message.tool_calls[0], ToolCall)
    assert message.tool_calls[0].id


def test_a_tool_message_names_its_call() -> None:
    with pytest.raises(ValidationError):
        UvToolMessage.model_validate({"content": "x"})


def test_state_is_a_dict_of_what_is_known() -> None:
    state: UvState = {"messages": MESSAGES, "thread_id": "t"}

    assert state["thread_id"] == "t"
    assert set(UvState.__annotations__) == {"messages", "thread_id", "resource_id", "user_intent"}
