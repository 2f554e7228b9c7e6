"""What the gateway itself says to OpenAI clients, in their own terms."""

from uuid import uuid4

import aiohttp
import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI

from tests.fakes.worker_server import WorkerServer
from tests.integration.gateway.chats import ORG, owned_by

BUSY = '{"error": {"message": "full", "type": "server_error", "param": null, "code": "SY-0007"}}'
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'


def base_url(gateway_url: str, instance_id: object) -> str:
    return f"{gateway_url}/api/orgs/{ORG}/orchestrators/{instance_id}/v1"


def client_of(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="made-up", max_retries=0)


async def busy(_: WorkerServer, __: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text=BUSY, content_type="application/json")


async def test_without_a_worker_an_openai_client_gets_an_error_it_can_read(gateway_url: str) -> None:
    async with client_of(base_url(gateway_url, uuid4())) as client:
        with pytest.raises(openai.InternalServerError) as refused:
            await client.models.list()
    assert (refused.value.status_code, refused.value.code, refused.value.type) == (503, "SY-0004", "server_error")
    assert int(refused.value.response.headers["retry-after"]) >= 1


async def test_a_full_worker_passes_an_openai_client_on_to_the_next(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    full, other = workers
    full.answer = busy
    url = base_url(gateway_url, owned_by(full, workers)) + "/chat/completions"
    async with client.post(url, json={}) as answer:
        assert (await answer.json())["worker"] == other.worker_id
    assert len(full.requests) == 1


async def test_a_stream_whose_worker_dies_raises_in_an_openai_client(
    gateway_url: str, workers: list[WorkerServer]
) -> None:
    worker = workers[0]
    worker.answer = worker.sse
    worker.chunks.put_nowait(CHUNK + b"data: {")
    async with client_of(base_url(gateway_url, owned_by(worker, workers))) as client:
        stream = aiter(await client.chat.completions.create(model="m", messages=[], stream=True))
        assert (await anext(stream)).id == "c"
        worker.chunks.put_nowait(ConnectionResetError)
        with pytest.raises(openai.APIError) as lost:
            await anext(stream)
    assert lost.value.code == "OR-0007"
