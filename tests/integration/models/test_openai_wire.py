import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from runtime_worker.models import openai_wire
from runtime_worker.models.base import (
    ModelAnswer,
    ModelClient,
    ModelMessage,
    ModelRequest,
    ModelTool,
    ModelToolCall,
    Usage,
)
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelError, ModelUnavailable
from shared.ids import new_id
from tests.fakes.instances import API_KEY, KEYRING, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, Gate, HangUp, Pause, Raw, Stall, Text, chunk, sse, usage_of
from tests.fakes.resolver import FixedResolver

HELLO = (ModelMessage("user", "hello"),)
ADD = ModelTool("add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})


def request(**options: Any) -> ModelRequest:
    return ModelRequest(messages=HELLO, **{"timeout_seconds": 10, **options})


@pytest.fixture
def connect(model_server: ModelServer, model_registry: ModelRegistry) -> Callable[..., ModelClient]:
    def connect(**config: Any) -> ModelClient:
        return model_registry.acquire(llm_config_snapshot(model_server.base_url, **config), "test-model", new_id())

    return connect


@pytest.fixture
def client(connect: Callable[..., ModelClient]) -> ModelClient:
    return connect()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_wire, "FIRST_BACKOFF_SECONDS", 0.001)


async def code_of(client: ModelClient, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        await client.complete(request(**options))
    assert API_KEY not in caught.value.detail
    return caught.value.code


async def test_text_arrives_in_order_and_the_answer_is_its_sum(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("Hé", "llo ", "🌍", usage=usage_of(12, 3, cached=4))
    deltas: list[str] = []
    answer = await client.complete(request(), deltas.append)
    assert deltas == ["Hé", "llo ", "🌍"]
    assert answer == ModelAnswer("Héllo 🌍", (), "stop", Usage(12, 3, 4))
    assert model_server.last.headers["authorization"] == f"Bearer {API_KEY}"
    assert model_server.last.path == "/v1/chat/completions"


async def test_deltas_arrive_while_the_model_still_writes(client: ModelClient, model_server: ModelServer) -> None:
    gate = Gate()
    model_server.step(Text("first"), gate, Text(" second"))
    arrived: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(client.complete(request(), arrived.put_nowait))
    assert await arrived.get() == "first"
    gate.opens.set()
    assert (await running).content == "first second"


async def test_characters_and_events_split_over_reads_are_whole_again(
    client: ModelClient, model_server: ModelServer
) -> None:
    wire = sse(chunk("m", {"content": "a€🎉"}))
    parts = [part for byte in wire for part in (Raw(bytes([byte])), Pause(0))]
    model_server.step(*parts)
    assert (await client.complete(request())).content == "a€🎉"


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
        ModelRequest(
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


async def test_an_answer_of_100_kilobytes_arrives_whole(client: ModelClient, model_server: ModelServer) -> None:
    text = "0123456789" * 10_000
    model_server.answer(text[:50_000], text[50_000:])
    assert (await client.complete(request())).content == text


@pytest.mark.parametrize(
    ("status", "code", "calls"),
    [(401, "LL-0002", 1), (403, "LL-0002", 1), (400, "LL-0004", 1), (404, "LL-0004", 1), (422, "LL-0004", 1)],
)
async def test_a_refused_request_is_not_tried_again(
    client: ModelClient, model_server: ModelServer, status: int, code: str, calls: int
) -> None:
    model_server.fail(status, message=f"bad key {API_KEY}", times=calls)
    with structlog.testing.capture_logs() as logs:
        assert await code_of(client) == code
    assert API_KEY not in str(logs)


@pytest.mark.parametrize(("status", "code"), [(429, "LL-0003"), (408, "LL-0005"), (500, "LL-0005"), (503, "LL-0005")])
async def test_what_may_pass_is_tried_three_times(
    client: ModelClient, model_server: ModelServer, status: int, code: str
) -> None:
    model_server.fail(status, times=3)
    assert await code_of(client) == code


async def test_a_retry_that_works_is_an_ordinary_answer(client: ModelClient, model_server: ModelServer) -> None:
    model_server.fail(503)
    model_server.fail(429, retry_after="0")
    model_server.answer("there")
    assert (await client.complete(request())).content == "there"


async def test_the_wait_a_provider_asks_for_is_told_instead_of_sat_out(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.fail(429, retry_after="120")
    with pytest.raises(ModelError) as caught:
        await client.complete(request())
    assert caught.value.retry_after_seconds == 120


async def test_retries_can_be_turned_off(connect: Callable[..., ModelClient], model_server: ModelServer) -> None:
    model_server.fail(500)
    assert await code_of(connect(max_retries=0)) == "LL-0005"


async def test_no_connection_is_unavailable(model_registry: ModelRegistry) -> None:
    async with ModelServer() as gone:
        url = gone.base_url
    client = model_registry.acquire(llm_config_snapshot(url), "m", new_id())
    assert await code_of(client) == "LL-0005"


async def test_a_redirect_is_not_followed(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(status=307, headers={"Location": "http://169.254.169.254/"}, body=b"")
    assert await code_of(client) == "LL-0005"


@pytest.mark.parametrize(
    "parts",
    [
        (Text("half"), HangUp()),
        (Text("half"), EndBody()),
        (EndBody(),),
        (Text("half"), Raw(b"data: {broken\n\n")),
        (Raw(b"<html>Bad gateway</html>"), EndBody()),
        (Raw(b'data: {"choices": "x"}\n\n'),),
    ],
)
async def test_garbage_and_streams_that_stop_are_protocol_errors(
    client: ModelClient, model_server: ModelServer, parts: tuple[Any, ...]
) -> None:
    model_server.step(*parts)
    assert await code_of(client) == "LL-0006"
    assert len(model_server.calls) == 1  # Never again after the first byte: the text may be on a screen already.


async def test_an_error_in_the_middle_is_an_error(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("half"), Raw(sse({"error": {"code": 503, "message": "overloaded"}})))
    assert await code_of(client) == "LL-0005"


async def test_a_stall_ends_at_the_deadline_and_hangs_up(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("half"), Stall())
    assert await code_of(client, timeout_seconds=0.2) == "LL-0007"
    async with asyncio.timeout(5):
        await model_server.last.hung_up.wait()


async def test_retries_end_with_the_deadline(client: ModelClient, model_server: ModelServer) -> None:
    model_server.fail(503, retry_after="5")
    assert await code_of(client, timeout_seconds=1) == "LL-0005"


async def test_cancelling_closes_the_socket_and_the_next_call_has_its_own(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.step(Text("first"), Stall())
    model_server.answer("next")
    arrived: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(client.complete(request(), arrived.put_nowait))
    await arrived.get()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        await model_server.calls[0].hung_up.wait()
    await client.complete(request())
    assert model_server.calls[0].connection != model_server.calls[1].connection


async def test_whole_answers_leave_their_connection_to_the_next_call(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.answer("one", times=3)
    for _ in range(3):
        await client.complete(request())
    assert model_server.connections == 1


async def test_an_answer_is_done_with_its_finish_reason_even_if_the_server_does_not_end(
    client: ModelClient, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_wire, "TAIL_SECONDS", 0.05)
    model_server.step(Text("done"), Raw(sse(chunk("m", {}, "stop"))), Stall())
    answer = await client.complete(request(timeout_seconds=60))
    assert (answer.content, answer.usage.is_estimated) == ("done", True)


async def test_the_done_mark_alone_ends_an_answer(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("short"), Raw(b"data: [DONE]\n\n"), EndBody())
    assert (await client.complete(request())).finish_reason == "stop"


async def test_a_public_name_that_resolves_to_this_machine_is_not_called(model_server: ModelServer) -> None:
    async with ModelConnections(allow_private=False, resolver=FixedResolver("127.0.0.1")) as connections:
        url = model_server.base_url.replace("http://127.0.0.1", "https://models.example.com")
        client = ModelRegistry(connections, KEYRING).acquire(llm_config_snapshot(url), "m", new_id())
        with pytest.raises(ModelUnavailable, match="may not be called"):
            await client.complete(request())
    assert model_server.connections == 0


async def test_proxies_of_the_environment_are_not_used(
    client: ModelClient, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setitem(os.environ, "http_proxy", "http://127.0.0.1:9")
    model_server.answer("direct")
    assert (await client.complete(request())).content == "direct"
