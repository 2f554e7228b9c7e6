"""Whatever a provider sends and whatever a conversation holds."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime_worker.models.accumulator import Accumulator
from runtime_worker.models.anthropic_body import encode_body as encode_anthropic
from runtime_worker.models.anthropic_events import AnthropicAccumulator
from runtime_worker.models.base import ModelMessage, ModelRequest, ModelToolCall
from runtime_worker.models.gemini_body import encode_body as encode_gemini
from runtime_worker.models.gemini_chunks import GeminiAccumulator
from runtime_worker.models.openai_chunks import OpenAIAccumulator
from shared.errors import ModelError
from shared.model_options import ModelOptions

ASKED = ModelRequest(messages=(ModelMessage("user", "hello"),))

WORDS = re.findall(
    r"\w+",
    """type content_block_start content_block_delta content_block_stop message_start message_delta message_stop error
    index content_block delta message usage text tool_use thinking signature partial_json input_json_delta text_delta
    stop_reason end_turn candidates content parts functionCall name args id thoughtSignature finishReason STOP
    usageMetadata promptTokenCount promptFeedback blockReason choices tool_calls function arguments finish_reason""",
)

leaves = (
    st.none() | st.booleans() | st.integers(-5, 600) | st.floats(allow_nan=False) | st.sampled_from(WORDS) | st.text()
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)
events = st.binary(max_size=30) | trees.map(lambda tree: json.dumps(tree).encode())


@pytest.mark.parametrize("accumulator", [OpenAIAccumulator, AnthropicAccumulator, GeminiAccumulator])
@settings(max_examples=50)
@given(stream=st.lists(events, max_size=6))
def test_a_stream_of_anything_is_an_answer_or_a_model_error(
    accumulator: type[Accumulator], stream: list[bytes]
) -> None:
    deltas: list[str] = []
    reading = accumulator(deltas.append)
    try:
        for event in stream:
            if reading.take(event):
                break
    except ModelError:
        return
    assert reading.answer(ASKED).content == "".join(deltas)


texts = st.sampled_from(["", " ", "hello", "é🌍"])
calls = st.builds(
    ModelToolCall,
    id=st.sampled_from(["c1", "c2"]),
    name=st.just("add"),
    arguments=st.sampled_from(["", "{}", '{"a":1}', "[1]", "{broken"]),
    signature=st.sampled_from(
        ["", "gemini:c2ln", 'anthropic:[{"type":"thinking","thinking":"","signature":"x"}]', "x"]
    ),
)
conversations = st.lists(
    st.one_of(
        st.builds(ModelMessage, role=st.sampled_from(["system", "user", "assistant"]), content=texts),
        st.builds(ModelMessage, role=st.just("assistant"), content=texts, tool_calls=st.lists(calls).map(tuple)),
        st.builds(ModelMessage, role=st.just("tool"), content=texts, tool_call_id=st.sampled_from(["c1", "c2"])),
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(messages=conversations)
def test_any_conversation_alternates_beginning_and_ending_with_a_user(messages: list[ModelMessage]) -> None:
    request = ModelRequest(messages=messages)
    claude: list[dict[str, Any]] = json.loads(encode_anthropic(request, "claude-x", ModelOptions()))["messages"]
    gemini: list[dict[str, Any]] = json.loads(encode_gemini(request, "gemini-3", ModelOptions()))["contents"]
    for turns, parts, other in ((claude, "content", "assistant"), (gemini, "parts", "model")):
        roles = [turn["role"] for turn in turns]
        assert roles[0] == roles[-1] == "user"
        assert all({one, next_one} == {"user", other} for one, next_one in pairwise(roles))
        assert all(turn[parts] for turn in turns)


@settings(max_examples=50)
@given(messages=conversations)
def test_every_call_and_result_of_a_conversation_is_sent(messages: list[ModelMessage]) -> None:
    request = ModelRequest(messages=messages)
    called = sum(len(message.tool_calls) for message in messages)
    answered = sum(message.role == "tool" for message in messages)
    claude = encode_anthropic(request, "claude-x", ModelOptions())
    gemini = encode_gemini(request, "gemini-3", ModelOptions())
    assert (claude.count(b'"tool_use"'), claude.count(b'"tool_result"')) == (called, answered)
    assert (gemini.count(b'"functionCall"'), gemini.count(b'"functionResponse"')) == (called, answered)
