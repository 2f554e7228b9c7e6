"""Gemini's generateContent: what is only its own."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from runtime_worker.models.base import ModelClient, ModelMessage, ModelToolCall, Usage
from shared.errors import ModelError
from shared.frameworks import Provider
from tests.fakes.instances import API_KEY
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, Raw, Text, sse
from tests.integration.models.asking import ADD, HELLO, VERDICT, code_of, request


@pytest.fixture
def provider() -> Provider:
    return Provider.GEMINI


async def test_what_a_request_asks_for_is_on_the_wire(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.answer("x")
    client = connect(model="models/gemini-2.5-pro", top_p=0.5, seed=0, reasoning_effort="low")
    messages = (
        ModelMessage("system", "be nice"),
        ModelMessage("user", "1 + 1?"),
        ModelMessage("assistant", "Well.", (ModelToolCall("c1", "add", '{"a":1}'), ModelToolCall("c2", "sub", ""))),
        ModelMessage("tool", "2", tool_call_id="c1"),
        ModelMessage("tool", "0", tool_call_id="c2"),
        *HELLO,
    )
    await client.complete(request(messages=messages, tools=(ADD,), temperature=0, max_tokens=7))
    assert model_server.last.path == "/v1/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert model_server.last.body == {
        "systemInstruction": {"parts": [{"text": "be nice"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "1 + 1?"}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Well."},
                    {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}},
                    {"functionCall": {"id": "c2", "name": "sub", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "add", "response": {"result": "2"}}},
                    {"functionResponse": {"id": "c2", "name": "sub", "response": {"result": "0"}}},
                    {"text": "hello"},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "add", "description": "Add two numbers.", "parametersJsonSchema": ADD.parameters}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "generationConfig": {
            "temperature": 0,
            "maxOutputTokens": 7,
            "topP": 0.5,
            "seed": 0,
            "thinkingConfig": {"thinkingLevel": "LOW"},
        },
    }
    assert model_server.last.headers["x-goog-api-key"] == API_KEY


async def test_nothing_is_sent_that_nobody_set(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("x")
    await client.complete(request())
    assert set(model_server.last.body) == {"contents"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("add", {"mode": "ANY", "allowedFunctionNames": ["add"]}),
    ],
)
async def test_every_tool_choice_has_its_word(
    client: ModelClient, model_server: ModelServer, choice: str, sent: dict[str, Any]
) -> None:
    model_server.answer("x")
    await client.complete(request(tools=(ADD,), tool_choice=choice))
    assert model_server.last.body["toolConfig"] == {"functionCallingConfig": sent}


async def test_a_form_is_asked_for_natively_and_beside_tools_as_one_of_them(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.answer('{"is_valid":true}')
    model_server.tools(("give_answer", {"is_valid": False}))
    assert (await client.complete(request(response_schema=VERDICT))).content == '{"is_valid":true}'
    config = model_server.last.body["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": VERDICT}

    beside_tools = await client.complete(request(response_schema=VERDICT, tools=(ADD,)))
    assert json.loads(beside_tools.content) == {"is_valid": False}
    assert model_server.last.tool_names == ["add", "give_answer"]
    assert "generationConfig" not in model_server.last.body


async def test_one_call_at_a_time_is_kept_where_it_cannot_be_asked_for(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.tools(("add", {"a": 1}), ("add", {"a": 2}))
    answer = await client.complete(request(tools=(ADD,), parallel_tool_calls=False))
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [{"a": 1}]


@pytest.mark.parametrize(
    ("model", "unsigned"),
    [("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-flash", None)],
)
async def test_a_call_goes_back_with_its_signature_or_with_the_word_for_having_none(
    connect: Callable[..., ModelClient], model_server: ModelServer, model: str, unsigned: str | None
) -> None:
    model_server.tools(("add", {"a": 1}), ("add", {"a": 2}))
    model_server.answer("3", times=2)
    client = connect(model=model)
    calls = (await client.complete(request(tools=(ADD,)))).tool_calls

    async def sent(*history: ModelToolCall) -> list[str | None]:
        await client.complete(request(messages=(*HELLO, ModelMessage("assistant", "", history))))
        return [part.get("thoughtSignature") for part in model_server.last.body["contents"][1]["parts"]]

    assert await sent(*calls) == ["c2lnbmVk", None]
    assert await sent(ModelToolCall("c1", "add", "{}", "anthropic:[]"), ModelToolCall("c2", "add", "{}")) == [
        unsigned,
        None,
    ]


async def test_a_conversation_begins_and_ends_with_a_user(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("x", times=2)
    await client.complete(request(messages=(ModelMessage("assistant", "Hello!"),)))
    assert [content["role"] for content in model_server.last.body["contents"]] == ["user", "model", "user"]
    await client.complete(request(messages=(ModelMessage("system", "be nice"),)))
    assert [content["role"] for content in model_server.last.body["contents"]] == ["user"]


def chunk(**fields: Any) -> Raw:
    return Raw(sse(fields))


async def test_thoughts_are_counted_but_not_shown(client: ModelClient, model_server: ModelServer) -> None:
    usage = {"promptTokenCount": 8, "candidatesTokenCount": 2, "thoughtsTokenCount": 30, "cachedContentTokenCount": 4}
    parts = [{"text": "hm", "thought": True}, {"text": "Hi"}]
    model_server.step(
        chunk(candidates=[{"content": {"parts": parts}, "finishReason": "STOP"}], usageMetadata=usage), EndBody()
    )
    answer = await client.complete(request())
    assert (answer.content, answer.usage) == ("Hi", Usage(8, 32, 4))


async def test_a_prompt_that_is_blocked_is_a_filtered_answer(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(chunk(promptFeedback={"blockReason": "SAFETY"}), EndBody())
    answer = await client.complete(request())
    assert (answer.content, answer.finish_reason) == ("", "content_filter")


async def test_a_call_that_the_model_could_not_write_is_an_error(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.step(Text("x"), chunk(candidates=[{"finishReason": "MALFORMED_FUNCTION_CALL"}]))
    assert await code_of(client) == "LL-0006"


async def test_a_wrong_key_is_a_refused_credential_although_the_status_says_otherwise(
    client: ModelClient, model_server: ModelServer
) -> None:
    error = {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}
    model_server.step(status=400, body=json.dumps({"error": error}).encode())
    assert await code_of(client) == "LL-0002"


async def test_the_wait_it_asks_for_is_in_the_body(client: ModelClient, model_server: ModelServer) -> None:
    error = {"code": 429, "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]}
    model_server.step(status=429, body=json.dumps([{"error": error}]).encode())
    with pytest.raises(ModelError) as caught:
        await client.complete(request())
    assert (caught.value.code, caught.value.retry_after_seconds) == ("LL-0003", 34)
