"""OpenAI's wire and the providers that speak it with an accent of their own."""

import json
from collections.abc import Callable

import pytest

from runtime_worker.models.base import ModelClient, ModelMessage, ModelToolCall, Usage
from shared.frameworks import Provider
from tests.fakes.instances import API_KEY
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, Raw, Text, sse
from tests.integration.models.asking import ADD, HELLO, VERDICT, code_of, request


async def test_what_a_request_asks_for_is_on_the_wire(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.tools(("add", {"a": 1}), ("add", {"a": 2}))
    history = (
        ModelMessage("system", "be nice"),
        ModelMessage("assistant", "", (ModelToolCall("c1", "add", '{"a":1}'),)),
        ModelMessage("tool", "1", tool_call_id="c1"),
        *HELLO,
    )
    schema = {"type": "object", "properties": {}}
    client = connect(organization="org-1", headers={"X-Team": "blue"}, top_p=0.5)
    answer = await client.complete(
        request(
            messages=history,
            tools=(ADD,),
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=0,
            max_tokens=7,
            response_schema=schema,
        )
    )
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [("add", '{"a": 1}'), ("add", '{"a": 2}')]
    assert answer.finish_reason == "tool_calls"
    body = model_server.last.body
    assert body["messages"] == [
        {"role": "system", "content": "be nice"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        {"role": "user", "content": "hello"},
    ]
    assert body["tools"][0]["function"]["name"] == "add"
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0, 7, 0.5)
    assert body["response_format"]["json_schema"]["schema"] == schema
    headers = model_server.last.headers
    assert (headers["openai-organization"], headers["x-team"]) == ("org-1", "blue")
    assert headers["authorization"] == f"Bearer {API_KEY}"


async def test_nothing_is_sent_that_nobody_set(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("x")
    await client.complete(request())
    assert set(model_server.last.body) == {"model", "messages", "stream", "stream_options"}


async def test_the_output_limit_has_the_name_that_was_configured(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.answer("x")
    await connect(max_tokens_parameter="max_completion_tokens").complete(request(max_tokens=9))
    assert model_server.last.body["max_completion_tokens"] == 9


async def test_the_done_mark_alone_ends_an_answer(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("short"), Raw(b"data: [DONE]\n\n"), EndBody())
    assert (await client.complete(request())).finish_reason == "stop"


async def test_one_key_travels_in_a_request(connect: Callable[..., ModelClient], model_server: ModelServer) -> None:
    model_server.answer("x")
    await connect(provider=Provider.ANTHROPIC, headers={"X-Api-Key": "sk-another"}).complete(request())
    assert model_server.last.headers["x-api-key"] == API_KEY


@pytest.mark.parametrize(
    ("suffix", "options", "path"),
    [
        ("", {}, "/openai/deployments/gpt-prod%2F1/chat/completions?api-version=2024-10-21"),
        (
            "/openai",
            {"api_version": "2025-01-01-preview"},
            "/openai/deployments/gpt-prod%2F1/chat/completions?api-version=2025-01-01-preview",
        ),
        ("/openai/v1", {}, "/openai/v1/chat/completions"),
        ("/openai/v1/", {"api_version": "preview"}, "/openai/v1/chat/completions?api-version=preview"),
    ],
)
async def test_azure_is_called_by_deployment_and_version_with_its_own_header(
    connect: Callable[..., ModelClient], model_server: ModelServer, suffix: str, options: dict[str, str], path: str
) -> None:
    model_server.answer("x", when=None)
    root = model_server.base_url.removesuffix("/v1")
    client = connect(provider=Provider.AZURE, base_url=root + suffix, model="gpt-prod/1", **options)
    await client.complete(request(max_tokens=5))
    call = model_server.last
    assert (call.path, call.model) == (path, "gpt-prod/1")
    assert call.headers["api-key"] == API_KEY
    assert "authorization" not in call.headers
    assert call.body["max_completion_tokens"] == 5


async def test_a_prompt_that_azure_filters_is_said_to_be_filtered(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    error = {"code": "content_filter", "message": "The prompt triggered a policy.", "status": 400}
    model_server.step(status=400, body=json.dumps({"error": error}).encode())
    client = connect(provider=Provider.AZURE)
    assert await code_of(client) == "LL-0004"


@pytest.mark.parametrize(
    ("provider", "parameter"),
    [
        (Provider.OPENAI, "max_tokens"),
        (Provider.LITELLM, "max_tokens"),
        (Provider.TENSORZERO, "max_tokens"),
        (Provider.GROQ, "max_completion_tokens"),
        (Provider.BIFROST, "max_completion_tokens"),
    ],
)
async def test_each_gateway_is_told_the_limit_in_its_own_word(
    connect: Callable[..., ModelClient], model_server: ModelServer, parameter: str
) -> None:
    model_server.answer("x")
    await connect().complete(request(max_tokens=9))
    assert model_server.last.body[parameter] == 9
    assert model_server.last.headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize("provider", [Provider.GROQ])
async def test_where_no_form_can_be_asked_for_a_tool_has_to_be_called(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.tools(("give_answer", {"is_valid": True}))
    deltas: list[str] = []
    answer = await connect().complete(request(response_schema=VERDICT), deltas.append)
    assert (json.loads(answer.content), answer.tool_calls, answer.finish_reason) == ({"is_valid": True}, (), "stop")
    assert deltas == [answer.content]
    body = model_server.last.body
    assert body["tool_choice"] == {"type": "function", "function": {"name": "give_answer"}}
    assert body["tools"][0]["function"]["parameters"] == VERDICT
    assert "response_format" not in body


@pytest.mark.parametrize("provider", [Provider.GROQ])
async def test_a_form_beside_tools_leaves_the_choice_to_the_model(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.tools(("add", {"a": 1}))
    answer = await connect().complete(request(tools=(ADD,), response_schema=VERDICT))
    assert [call.name for call in answer.tool_calls] == ["add"]
    assert model_server.last.body["tool_choice"] == "required"


async def test_a_form_can_be_asked_for_the_other_way(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.tools(("give_answer", {"is_valid": False}))
    answer = await connect(structured_output="tool").complete(request(response_schema=VERDICT))
    assert json.loads(answer.content) == {"is_valid": False}


async def test_usage_is_found_where_groq_puts_it(client: ModelClient, model_server: ModelServer) -> None:
    extra = {"choices": [], "x_groq": {"usage": {"prompt_tokens": 4, "completion_tokens": 1}}}
    model_server.step(Text("x"), Raw(sse(extra)), usage=None)
    assert (await client.complete(request())).usage == Usage(4, 1, 0)
