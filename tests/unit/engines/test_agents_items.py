"""A conversation survives the way into the Agents SDK's items and back."""

import pytest
from agents import ModelResponse
from agents import Usage as SDKUsage
from hypothesis import given
from hypothesis import strategies as st

from runtime_worker.engines.openai_agents.items import from_items, output_items, to_items
from runtime_worker.models.base import ModelAnswer, ModelMessage, ModelToolCall, Usage

texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=8)
questions = st.builds(ModelMessage, st.sampled_from(["user", "system"]), texts)


@st.composite
def conversations(draw: st.DrawFn) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    for position, question in enumerate(draw(st.lists(questions, max_size=4))):
        numbers = range(draw(st.integers(0, 3)))
        calls = tuple(ModelToolCall(f"c{position}.{number}", draw(names), draw(texts)) for number in numbers)
        results = [ModelMessage("tool", draw(texts), tool_call_id=call.id) for call in calls]
        messages += [question, ModelMessage("assistant", draw(texts), calls), *results]
    return messages


@given(conversations())
def test_a_conversation_comes_back_as_it_went(messages: list[ModelMessage]) -> None:
    assert from_items(to_items(messages)) == messages


@given(texts, st.lists(st.builds(ModelToolCall, names, names, texts), max_size=3))
def test_an_answer_reads_as_the_message_it_was(content: str, asked: list[ModelToolCall]) -> None:
    answer = ModelAnswer(content, tuple(asked), "stop", Usage())
    items = ModelResponse(output=output_items(answer), usage=SDKUsage(), response_id=None).to_input_items()
    assert from_items(items) == [ModelMessage("assistant", content, tuple(asked))]


def test_results_stand_in_the_order_of_their_calls() -> None:
    calls = tuple(ModelToolCall(call_id, "add", "{}") for call_id in ("a", "b", "c"))
    results = [ModelMessage("tool", call_id, tool_call_id=call_id) for call_id in ("c", "a", "b")]
    messages = from_items(to_items([ModelMessage("assistant", "", calls), *results]))
    assert [message.content for message in messages[1:]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "w", "status": "completed"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/cat.png"}]},
    ],
)
def test_what_a_chat_completion_has_no_place_for_is_refused(item: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="has no place"):
        from_items([item])  # type: ignore[list-item]
