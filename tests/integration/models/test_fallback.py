"""The model that is asked when another one does not answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from runtime_worker.models.base import AnsweredBy, ModelClient
from runtime_worker.models.fallback import FallbackClient
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Provider
from shared.ids import new_id
from tests.fakes.deaf_server import Deaf
from tests.fakes.instances import llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import EndBody, HangUp, Part, Stall, Text
from tests.integration.models.asking import code_of, request


@pytest.fixture
async def second_server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server
        server.assert_done()


def with_fallback(registry: ModelRegistry, first_url: str, second: ModelServer) -> ModelClient:
    org_id = new_id()
    own = registry.acquire(llm_config_snapshot(first_url, max_retries=1), "own", org_id)
    config = llm_config_snapshot(second.base_url, provider=Provider.ANTHROPIC, max_retries=0)
    return FallbackClient(own, registry.acquire(config, "other", org_id), Provider.ANTHROPIC)


@pytest.fixture
def client(model_registry: ModelRegistry, model_server: ModelServer, second_server: ModelServer) -> ModelClient:
    return with_fallback(model_registry, model_server.base_url, second_server)


async def test_a_model_that_answers_is_the_only_one_asked(client: ModelClient, model_server: ModelServer) -> None:
    model_server.answer("mine")
    answer = await client.complete(request())
    assert (answer.content, answer.answered_by) == ("mine", None)


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_the_fallback_answers_when_retries_are_used_up(
    client: ModelClient, model_server: ModelServer, second_server: ModelServer, status: int
) -> None:
    model_server.fail(status, times=1 if status == 401 else 2)
    second_server.answer("still", " there")
    deltas: list[str] = []
    answer = await client.complete(request(temperature=0), deltas.append)
    assert (deltas, answer.content) == (["still", " there"], "still there")
    assert answer.answered_by == AnsweredBy(Provider.ANTHROPIC, "other")


@pytest.mark.parametrize("parts", [(HangUp(),), (EndBody(),)])
async def test_an_answer_that_broke_before_its_first_word_is_asked_for_elsewhere(
    client: ModelClient, model_server: ModelServer, second_server: ModelServer, parts: tuple[Part, ...]
) -> None:
    model_server.step(*parts)
    second_server.answer("there")
    assert (await client.complete(request())).content == "there"


async def test_nobody_is_asked_again_once_a_word_is_out(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("half"), EndBody())
    deltas: list[str] = []
    with pytest.raises(Exception, match="stopped in the middle"):
        await client.complete(request(), deltas.append)
    assert deltas == ["half"]


async def test_a_refused_request_is_not_taken_elsewhere(client: ModelClient, model_server: ModelServer) -> None:
    model_server.fail(400)
    assert await code_of(client) == "LL-0004"


async def test_a_model_that_hangs_leaves_time_for_the_other(
    model_registry: ModelRegistry, second_server: ModelServer
) -> None:
    second_server.answer("there")
    async with Deaf() as deaf:
        client = with_fallback(model_registry, deaf.url, second_server)
        assert (await client.complete(request(timeout_seconds=1))).content == "there"


async def test_the_fallback_has_what_is_left_of_the_time(
    client: ModelClient, model_server: ModelServer, second_server: ModelServer
) -> None:
    model_server.fail(401)
    second_server.step(Stall())
    assert await code_of(client, timeout_seconds=0.3) == "LL-0007"


async def test_when_both_fail_the_second_failure_is_told(
    client: ModelClient, model_server: ModelServer, second_server: ModelServer
) -> None:
    model_server.fail(401)
    second_server.fail(429)
    assert await code_of(client) == "LL-0003"


async def test_cancelling_closes_the_fallbacks_socket(
    client: ModelClient, model_server: ModelServer, second_server: ModelServer
) -> None:
    model_server.fail(401)
    second_server.step(Text("first"), Stall())
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    running = asyncio.create_task(client.complete(request(), arrived.put_nowait))
    await arrived.get()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        await second_server.last.hung_up.wait()
