import json
from typing import Any

import pytest

from runtime_worker.models import accumulator as bounds
from runtime_worker.models.base import ModelMessage, ModelRequest, ModelToolCall, Usage
from runtime_worker.models.openai_chunks import OpenAIAccumulator, decode_chunk
from shared.errors import ModelProtocolError

ASKED = ModelRequest(messages=(ModelMessage("user", "x" * 44),))


def add(accumulator: OpenAIAccumulator, delta: dict[str, Any], **choice: Any) -> None:
    accumulator.add(decode_chunk(json.dumps({"choices": [{"delta": delta, **choice}]}).encode()))


def call_delta(index: int | None, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


def test_parallel_calls_are_put_together_by_index() -> None:
    accumulator = OpenAIAccumulator(None)
    add(accumulator, call_delta(0, "a", "add", '{"x"'))
    add(accumulator, call_delta(1, "b", "mul", '{"y"'))
    add(accumulator, call_delta(0, None, None, ":1}"))
    add(accumulator, call_delta(1, None, None, ":2}"), finish_reason="tool_calls")
    answer = accumulator.answer(ASKED)
    assert answer.tool_calls == (ModelToolCall("a", "add", '{"x":1}'), ModelToolCall("b", "mul", '{"y":2}'))
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("index", [None, 0])
def test_whole_calls_without_a_usable_index_are_told_apart_by_id(index: int | None) -> None:
    accumulator = OpenAIAccumulator(None)
    add(accumulator, call_delta(index, "a", "add", "{}"))
    add(accumulator, call_delta(index, "b", "mul", "{}"))
    assert [call.name for call in accumulator.answer(ASKED).tool_calls] == ["add", "mul"]


def test_calls_win_over_a_finish_reason_that_says_stop() -> None:
    accumulator = OpenAIAccumulator(None)
    add(accumulator, call_delta(0, "a", "add", "{}"), finish_reason="stop")
    assert accumulator.answer(ASKED).finish_reason == "tool_calls"


def test_usage_is_estimated_and_says_so_when_the_provider_counts_nothing() -> None:
    accumulator = OpenAIAccumulator(None)
    add(accumulator, {"content": "12345678"}, finish_reason="stop")
    assert accumulator.answer(ASKED).usage == Usage(11, 2, 0, is_estimated=True)


def test_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ANSWER_CHARS", 10)
    accumulator = OpenAIAccumulator(None)
    add(accumulator, {"content": "123456"})
    with pytest.raises(ModelProtocolError):
        add(accumulator, {"content": "123456"})


@pytest.mark.parametrize(
    "data", [b"not json", b"[1]", b'{"choices": 3}', b'{"choices":[{"delta":{"content":1}}]}', b"\xff"]
)
def test_what_is_no_chunk_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ModelProtocolError):
        decode_chunk(data)


@pytest.mark.parametrize("data", [b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":[{"delta":null}],"x":1}'])
def test_chunks_that_say_nothing_are_fine(data: bytes) -> None:
    accumulator = OpenAIAccumulator(None)
    accumulator.add(decode_chunk(data))
    assert accumulator.answer(ASKED).content == ""


def test_a_name_that_never_ends_is_too_long_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ANSWER_CHARS", 10)
    accumulator = OpenAIAccumulator(None)
    add(accumulator, call_delta(0, "a", "x" * 10, ""))
    with pytest.raises(ModelProtocolError):
        add(accumulator, call_delta(0, None, "x", ""))


def test_a_chunk_nested_beyond_reason_is_no_chunk() -> None:
    with pytest.raises(ModelProtocolError):
        decode_chunk(b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_an_answer_in_crumbs_is_too_long_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ANSWER_CHARS", 3 * 10)
    accumulator = OpenAIAccumulator(None)
    for _ in range(10):
        add(accumulator, {"content": "x"})
    with pytest.raises(ModelProtocolError):
        add(accumulator, {"content": "x"})
