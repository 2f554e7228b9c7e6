"""Anthropic's messages API: what is only its own."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from runtime_worker.models.base import ModelClient, ModelMessage, ModelToolCall, Usage
from shared.frameworks import Provider
from tests.fakes.instances import API_KEY
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, Raw, Text, sse
from tests.integration.models.asking import ADD, HELLO, VERDICT, request


@pytest.fixture
def provider() -> Provider:
    return Provider.ANTHROPIC


async def test_what_a_request_asks_for_is_on_the_wire(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.answer("x")
    client = connect(model="claude-sonnet-4-5", top_p=0.5, reasoning_effort="low", headers={"X-Team": "blue"})
    messages = (
        ModelMessage("system", "be nice"),
        ModelMessage("user", "1 + 1?"),
        ModelMessage("assistant", "", (ModelToolCall("c1", "add", '{"a":1}'), ModelToolCall("c2", "add", "{broken"))),
        ModelMessage("tool", "2", tool_call_id="c1"),
        ModelMessage("tool", "", tool_call_id="c2"),
        ModelMessage("system", "be brief"),
        *HELLO,
    )
    await client.complete(
        request(messages=messages, tools=(ADD,), parallel_tool_calls=False, max_tokens=7, response_schema=VERDICT)
    )
    assert model_server.last.body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 7,
        "stream": True,
        "system": "be nice\n\nbe brief",
        "top_p": 0.5,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                    {"type": "tool_use", "id": "c2", "name": "add", "input": {"arguments": "{broken"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "2"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": ""},
                    {"type": "text", "text": "hello"},
                ],
            },
        ],
        "tools": [{"name": "add", "description": "Add two numbers.", "input_schema": ADD.parameters}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": VERDICT}},
    }
    headers = model_server.last.headers
    assert (headers["x-api-key"], headers["anthropic-version"], headers["x-team"]) == (API_KEY, "2023-06-01", "blue")
    assert "authorization" not in headers


async def test_nothing_is_sent_that_nobody_set_but_the_limit_it_insists_on(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.answer("x")
    await client.complete(request())
    assert set(model_server.last.body) == {"model", "messages", "stream", "max_tokens"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("add", {"type": "tool", "name": "add"}),
    ],
)
async def test_every_tool_choice_has_its_word(
    client: ModelClient, model_server: ModelServer, choice: str, sent: dict[str, str]
) -> None:
    model_server.answer("x")
    await client.complete(request(tools=(ADD,), tool_choice=choice))
    assert model_server.last.body["tool_choice"] == sent


async def test_a_model_that_cannot_stop_thinking_is_not_made_to_call(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.answer("x")
    await connect(model="claude-opus-5-5").complete(request(tools=(ADD,), tool_choice="required"))
    assert model_server.last.body["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("model", "is_sent"), [("claude-haiku-4-5-20251001", True), ("claude-opus-4-7", False), ("claude-sonnet-5", False)]
)
async def test_a_temperature_goes_only_where_it_is_not_refused(
    connect: Callable[..., ModelClient], model_server: ModelServer, model: str, is_sent: bool
) -> None:
    model_server.answer("x")
    await connect(model=model).complete(request(temperature=0))
    assert ("temperature" in model_server.last.body) is is_sent


async def test_an_older_model_gives_a_form_by_calling_a_tool(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.tools(("give_answer", {"is_valid": True}))
    answer = await connect(model="claude-sonnet-4-20250514").complete(request(response_schema=VERDICT))
    assert (json.loads(answer.content), answer.tool_calls) == ({"is_valid": True}, ())
    body = model_server.last.body
    assert body["tool_choice"] == {"type": "tool", "name": "give_answer", "disable_parallel_tool_use": True}
    assert "output_config" not in body


@pytest.mark.parametrize(
    "messages",
    [
        (ModelMessage("assistant", "Hello, how can I help?"), ModelMessage("user", "hm")),
        (ModelMessage("user", "hm"), ModelMessage("assistant", "Well")),
        (ModelMessage("system", "be nice"),),
        (ModelMessage("user", " "),),
        (ModelMessage("user", "a"), ModelMessage("assistant", ""), ModelMessage("user", "b")),
    ],
)
async def test_a_conversation_always_begins_and_ends_with_a_user_who_says_something(
    client: ModelClient, model_server: ModelServer, messages: tuple[ModelMessage, ...]
) -> None:
    model_server.answer("x")
    await client.complete(request(messages=messages))
    sent = model_server.last.body["messages"]
    roles = [message["role"] for message in sent]
    assert roles[0] == roles[-1] == "user"
    assert all(one != other for one, other in pairwise(roles))
    assert all(block["text"].strip() for message in sent for block in message["content"])


async def test_tools_of_the_history_are_named_but_not_offered(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("x")
    messages = (
        *HELLO,
        ModelMessage("assistant", "", (ModelToolCall("c1", "add", "{}"),)),
        ModelMessage("tool", "2", tool_call_id="c1"),
    )
    await client.complete(request(messages=messages))
    body = model_server.last.body
    assert (body["tool_choice"], [tool["name"] for tool in body["tools"]]) == ({"type": "none"}, ["add"])


def event(kind: str, **fields: Any) -> Raw:
    return Raw(sse({"type": kind, **fields}))


async def test_thoughts_are_not_shown_and_go_back_with_the_call_they_led_to(
    client: ModelClient, model_server: ModelServer
) -> None:
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    model_server.step(
        event("content_block_start", index=0, content_block=thought),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm, "}),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "add"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block={"type": "redacted_thinking", "data": "eHh4"}),
        event("content_block_stop", index=1),
        event(
            "content_block_start", index=2, content_block={"type": "tool_use", "id": "t1", "name": "add", "input": {}}
        ),
        event("content_block_stop", index=2),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
        event("message_stop"),
        EndBody(),
    )
    model_server.answer("2")
    deltas: list[str] = []
    answer = await client.complete(request(tools=(ADD,)), deltas.append)
    assert (deltas, answer.content, answer.tool_calls[0].arguments) == ([], "", "{}")

    history = (*HELLO, ModelMessage("assistant", "", answer.tool_calls), ModelMessage("tool", "2", tool_call_id="t1"))
    await client.complete(request(messages=history, tools=(ADD,)))
    assert model_server.last.body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm, add", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eHh4"},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {}},
    ]


async def test_the_signature_of_another_provider_is_left_out(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("x")
    call = ModelToolCall("c1", "add", "{}", "gemini:c2ln")
    history = (*HELLO, ModelMessage("assistant", "", (call,)), ModelMessage("tool", "2", tool_call_id="c1"))
    await client.complete(request(messages=history))
    assert "c2ln" not in json.dumps(model_server.last.body)


async def test_what_the_cache_gave_counts_as_input(client: ModelClient, model_server: ModelServer) -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 7, "output_tokens": 1}
    model_server.step(
        event("message_start", message={"usage": usage}),
        Text("x"),
        event("ping"),
        event("something_new", anything=[1]),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}),
        event("message_stop"),
        EndBody(),
    )
    assert (await client.complete(request())).usage == Usage(32, 9, 20)


async def test_arguments_that_come_at_once_are_taken_too(client: ModelClient, model_server: ModelServer) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    model_server.step(
        event("content_block_start", index=0, content_block=use),
        event("content_block_stop", index=0),
        event("message_stop"),
        EndBody(),
    )
    assert json.loads((await client.complete(request())).tool_calls[0].arguments) == {"a": 1}
