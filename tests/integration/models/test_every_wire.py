"""What every model client promises, whatever wire it speaks."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from runtime_worker.models import client as client_module
from runtime_worker.models.base import ModelAnswer, ModelClient, ModelMessage, ModelToolCall, Usage
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelError, ModelUnavailable
from shared.frameworks import Provider
from shared.ids import new_id
from tests.fakes.connections import watched_connections
from tests.fakes.deaf_server import Deaf
from tests.fakes.instances import API_KEY, KEYRING, llm_config_snapshot
from tests.fakes.model_dialect import dialect_of
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, Gate, HangUp, Part, Pause, Raw, Stall, Step, Text, ToolCalls, sse, usage_of
from tests.fakes.resolver import FixedResolver
from tests.integration.models.asking import ADD, VERDICT, code_of, request

WIRES = {
    Provider.OPENAI: "/v1/chat/completions",
    Provider.ANTHROPIC: "/v1/messages",
    Provider.GEMINI: "/v1/models/test-model:streamGenerateContent?alt=sse",
}


@pytest.fixture(params=WIRES, ids=str)
def provider(request: pytest.FixtureRequest) -> Provider:
    chosen: Provider = request.param
    return chosen


async def test_text_arrives_in_order_and_the_answer_is_its_sum(
    client: ModelClient, model_server: ModelServer, provider: Provider
) -> None:
    model_server.answer("Hé", "llo ", "🌍", usage=usage_of(12, 3, cached=4))
    deltas: list[str] = []
    answer = await client.complete(request(), deltas.append)
    assert deltas == ["Hé", "llo ", "🌍"]
    assert answer == ModelAnswer("Héllo 🌍", (), "stop", Usage(12, 3, 4))
    assert model_server.last.path == WIRES[provider]
    assert model_server.last.model == "test-model"


async def test_deltas_arrive_while_the_model_still_writes(client: ModelClient, model_server: ModelServer) -> None:
    gate = Gate()
    model_server.step(Text("first"), gate, Text(" second"))
    arrived: asyncio.Queue[str] = asyncio.Queue()
    running = asyncio.create_task(client.complete(request(), arrived.put_nowait))
    assert await arrived.get() == "first"
    gate.opens.set()
    assert (await running).content == "first second"


async def test_characters_and_events_split_over_reads_are_whole_again(
    client: ModelClient, model_server: ModelServer, provider: Provider
) -> None:
    dialect = dialect_of(WIRES[provider], {})
    wire = dialect.opening(Step(())) + dialect.text("a€🎉")
    parts = [part for byte in wire for part in (Raw(bytes([byte])), Pause(0))]
    model_server.step(*parts)
    assert (await client.complete(request())).content == "a€🎉"


async def test_parallel_calls_are_whole_and_in_order(client: ModelClient, model_server: ModelServer) -> None:
    model_server.tools(("add", {"a": 1, "text": "é🌍"}), ("add", {}, "call_7"), usage=usage_of(30, 9))
    answer = await client.complete(request(tools=(ADD,)))
    assert [(call.id, call.name) for call in answer.tool_calls] == [("call_add_0", "add"), ("call_7", "add")]
    assert [call.arguments.replace(" ", "") for call in answer.tool_calls] == ['{"a":1,"text":"é🌍"}', "{}"]
    assert (answer.finish_reason, answer.content, answer.usage) == ("tool_calls", "", Usage(30, 9))


async def test_a_model_may_speak_before_it_calls(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("Let me see."), ToolCalls([("add", {"a": 1})]))
    answer = await client.complete(request(tools=(ADD,)))
    assert (answer.content, [call.name for call in answer.tool_calls]) == ("Let me see.", ["add"])


async def test_a_whole_tool_exchange_reads_the_same_over_every_wire(
    client: ModelClient, model_server: ModelServer
) -> None:
    model_server.answer("2")
    history = (
        ModelMessage("system", "be nice"),
        ModelMessage("user", "1 + 1? and 2 + 2?"),
        ModelMessage("assistant", "Well.", (ModelToolCall("c1", "add", '{"a":1}'), ModelToolCall("c2", "add", ""))),
        ModelMessage("tool", "2", tool_call_id="c1"),
        ModelMessage("tool", "the tool failed", tool_call_id="c2"),
    )
    await client.complete(request(messages=history, tools=(ADD,)))
    call = model_server.last
    assert (call.system, call.last_user, call.tool_names) == ("be nice", "1 + 1? and 2 + 2?", ["add"])
    assert call.tool_results == ["2", "the tool failed"]
    (said,) = [m for m in call.messages if m["role"] == "assistant"]
    assert said["content"] == "Well."
    assert [(c["id"], c["function"]["name"]) for c in said["tool_calls"]] == [("c1", "add"), ("c2", "add")]


async def test_a_temperature_of_zero_and_a_limit_reach_the_wire(
    connect: Callable[..., ModelClient], model_server: ModelServer, provider: Provider
) -> None:
    model_server.answer("x")
    await connect(model="claude-sonnet-4-5" if provider is Provider.ANTHROPIC else "m").complete(
        request(temperature=0, max_tokens=7)
    )
    body = model_server.last.body
    sent = body["generationConfig"] if provider is Provider.GEMINI else body
    assert (sent["temperature"], sent.get("max_tokens", sent.get("maxOutputTokens"))) == (0, 7)


@pytest.mark.parametrize(("reason", "means"), [("length", "length"), ("content_filter", "content_filter")])
async def test_an_answer_says_why_it_ended(
    client: ModelClient, model_server: ModelServer, reason: str, means: str
) -> None:
    model_server.answer("so far", finish_reason=reason)
    assert (await client.complete(request())).finish_reason == means


async def test_usage_that_is_not_counted_is_estimated(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("12345678", usage=None)
    assert (await client.complete(request())).usage == Usage(2, 2, 0, is_estimated=True)


async def test_an_answer_of_100_kilobytes_arrives_whole(client: ModelClient, model_server: ModelServer) -> None:
    text = "0123456789" * 10_000
    model_server.answer(text[:50_000], text[50_000:])
    assert (await client.complete(request())).content == text


@pytest.mark.parametrize(
    ("status", "code"), [(401, "LL-0002"), (403, "LL-0002"), (400, "LL-0004"), (404, "LL-0004"), (422, "LL-0004")]
)
async def test_a_refused_request_is_not_tried_again(
    client: ModelClient, model_server: ModelServer, status: int, code: str
) -> None:
    model_server.fail(status, message=f"bad key {API_KEY}")
    with structlog.testing.capture_logs() as logs:
        assert await code_of(client) == code
    assert API_KEY not in str(logs)


@pytest.mark.parametrize(
    ("status", "code"),
    [(408, "LL-0005"), (409, "LL-0005"), (429, "LL-0003"), (500, "LL-0005"), (503, "LL-0005"), (529, "LL-0005")],
)
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


async def test_retries_end_with_the_deadline(client: ModelClient, model_server: ModelServer) -> None:
    model_server.fail(503, retry_after="5")
    assert await code_of(client, timeout_seconds=1) == "LL-0005"


async def test_no_connection_is_unavailable(model_registry: ModelRegistry, provider: Provider) -> None:
    async with ModelServer() as gone:
        url = gone.base_url
    client = model_registry.acquire(llm_config_snapshot(url, provider=provider), "m", new_id())
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
        (Raw(b'data: {"choices": "x", "type": 1, "candidates": {}}\n\n'),),
        (Raw(b"data: [1]\n\n"),),
        (Raw(b"data: \xff\n\n"),),
    ],
)
async def test_garbage_and_streams_that_stop_are_protocol_errors(
    client: ModelClient, model_server: ModelServer, parts: tuple[Part, ...]
) -> None:
    model_server.step(*parts)
    assert await code_of(client) == "LL-0006"
    assert len(model_server.calls) == 1  # Never again after the first byte: the text may be on a screen already.


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (503, "overloaded_error", "LL-0005"),
        (429, "rate_limit_error", "LL-0003"),
        (401, "authentication_error", "LL-0002"),
    ],
)
async def test_an_error_in_the_middle_is_an_error(
    client: ModelClient, model_server: ModelServer, provider: Provider, status: int, kind: str, code: str
) -> None:
    error: dict[str, Any] = {"message": f"no {API_KEY}"}
    if provider is Provider.ANTHROPIC:
        error["type"] = kind
    else:
        error["code"] = status
    model_server.step(Text("half"), Raw(sse({"type": "error", "error": error})))
    assert await code_of(client) == code


async def test_a_stall_ends_at_the_deadline_and_hangs_up(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("half"), Stall())
    assert await code_of(client, timeout_seconds=0.2) == "LL-0007"
    async with asyncio.timeout(5):
        await model_server.last.hung_up.wait()


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
    client: ModelClient, model_server: ModelServer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "TAIL_SECONDS", 0.05)
    ending = next(dialect_of(WIRES[provider], {}).ending(Step((), usage=None)))
    model_server.step(Text("done"), Raw(ending), Stall(), usage=None)
    answer = await client.complete(request(timeout_seconds=60))
    assert (answer.content, answer.usage.is_estimated) == ("done", True)


async def test_an_answer_that_does_not_begin_is_given_up_sooner(
    model_registry: ModelRegistry, provider: Provider
) -> None:
    async with Deaf() as deaf:
        client = model_registry.acquire(llm_config_snapshot(deaf.url, provider=provider), "m", new_id())
        assert await code_of(client, timeout_seconds=60, begin_within_seconds=0.1) == "LL-0007"


async def test_an_answer_that_has_begun_may_take_its_time(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("slow"), Pause(0.3), Text("ly"))
    assert (await client.complete(request(begin_within_seconds=0.2))).content == "slowly"


async def test_a_public_name_that_resolves_to_this_machine_is_not_called(
    model_server: ModelServer, provider: Provider
) -> None:
    async with ModelConnections(allow_private=False, resolver=FixedResolver("127.0.0.1")) as connections:
        url = model_server.base_url.replace("http://127.0.0.1", "https://models.example.com")
        config = llm_config_snapshot(url, provider=provider)
        client = ModelRegistry(connections, KEYRING).acquire(config, "m", new_id())
        with pytest.raises(ModelUnavailable, match="may not be called"):
            await client.complete(request())
    assert model_server.connections == 0


async def test_nobody_is_connected_to_but_the_configured_address(
    client: ModelClient, model_server: ModelServer
) -> None:
    elsewhere = {"Location": "http://127.0.0.1:9/", "Alt-Svc": 'h2="127.0.0.1:9"'}
    model_server.tools(("add", {"a": 1}), headers=elsewhere)
    model_server.fail(503)
    model_server.step(status=307, headers=elsewhere, body=b"")
    host, port = model_server.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    with watched_connections() as connected:
        await client.complete(request(tools=(ADD,)))
        assert await code_of(client, response_schema=VERDICT) == "LL-0005"
    assert set(connected) == {(host, int(port))}


async def test_proxies_and_keys_of_the_environment_are_not_used(
    client: ModelClient, model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setitem(os.environ, name, "sk-of-the-machine")
    model_server.answer("direct")
    assert (await client.complete(request())).content == "direct"
    assert "sk-of-the-machine" not in str(model_server.last.headers)
