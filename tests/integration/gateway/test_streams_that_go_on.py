"""A stream whose worker is lost goes on from another, as the gateway promises it to chat clients."""

import asyncio

import aiohttp
from aiohttp import web
from redis.asyncio import Redis

from tests.fakes.worker_server import WorkerServer
from tests.integration.gateway.chats import ORG, RUN, chat_path, owned_by
from tests.integration.gateway.conftest import SECONDS


def last_event_of_run(number: int) -> bytes:
    return f'id: {RUN}:{number}\nevent: metadata\ndata: {{"final":true,"status":"completed"}}\n\n'.encode()


def event_of_run(number: int, content: str) -> bytes:
    return f'id: {RUN}:{number}\nevent: message\ndata: {{"content":"{content}"}}\n\n'.encode()


async def test_a_stream_whose_worker_dies_goes_on_from_another_behind_the_last_event_that_came_through(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    first, second = workers
    first.answer, second.answer = first.sse, second.sse
    headers = {"Authorization": "Bearer mine", "Idempotency-Key": "k"}
    async with client.post(gateway_url + chat_path(owned_by(first, workers)), json={}, headers=headers) as answer:
        seen = event_of_run(1, "a") + event_of_run(2, "b")
        first.chunks.put_nowait(seen + b": keep-alive\n\n" + f"id: {RUN}:3\nevent: mess".encode())
        first.chunks.put_nowait(ConnectionResetError)
        rest = event_of_run(3, "c") + last_event_of_run(4)
        second.chunks.put_nowait(rest)
        second.chunks.put_nowait(None)
        whole = await answer.content.read()

    assert whole.replace(b": keep-alive\n\n", b"") == seen + rest
    (method, path, sent, _), *more = [r for r in second.requests if r[1].endswith("/stream")]
    assert (method, path, more) == ("GET", f"/api/orgs/{ORG}/runs/{RUN}/stream", [])
    assert (sent["last-event-id"], sent["authorization"]) == (f"{RUN}:2", "Bearer mine")


async def test_a_stream_whose_worker_falls_silent_and_out_of_the_registry_goes_on_from_another(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession, redis: Redis
) -> None:
    first, second = workers
    first.answer, second.answer = first.sse, second.sse
    async with client.post(gateway_url + chat_path(owned_by(first, workers)), json={}) as answer:
        first.chunks.put_nowait(event_of_run(1, "a"))
        assert await answer.content.readexactly(len(event_of_run(1, "a"))) == event_of_run(1, "a")
        # It is paused: its connections stay, its heartbeats do not.
        await redis.zrem("workers", first.worker_id)
        second.chunks.put_nowait(last_event_of_run(2))
        second.chunks.put_nowait(None)
        async with asyncio.timeout(SECONDS):
            assert await answer.content.read() == last_event_of_run(2)


async def test_a_stream_that_its_worker_ends_without_a_last_event_goes_on_from_another(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    first, second = workers
    first.answer, second.answer = first.sse, second.sse
    async with client.post(gateway_url + chat_path(owned_by(first, workers)), json={}) as answer:
        first.chunks.put_nowait(event_of_run(1, "a") + b": keep-alive\n\n")
        first.chunks.put_nowait(None)
        second.chunks.put_nowait(event_of_run(2, "b") + last_event_of_run(3))
        second.chunks.put_nowait(None)
        whole = await answer.content.read()
    assert whole == event_of_run(1, "a") + b": keep-alive\n\n" + event_of_run(2, "b") + last_event_of_run(3)
    assert [r[2]["last-event-id"] for r in second.requests] == [f"{RUN}:1"]


async def test_a_stream_that_breaks_off_behind_a_runs_last_event_has_ended(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    first, second = workers
    first.answer = first.sse
    async with client.post(gateway_url + chat_path(owned_by(first, workers)), json={}) as answer:
        first.chunks.put_nowait(event_of_run(1, "a") + last_event_of_run(2))
        first.chunks.put_nowait(ConnectionResetError)
        assert await answer.content.read() == event_of_run(1, "a") + last_event_of_run(2)
    assert [r for r in second.requests if r[1].endswith("/stream")] == []


async def test_a_run_that_nobody_can_show_any_more_ends_with_an_error_event(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    first, second = workers
    first.answer = first.sse

    async def gone(_: WorkerServer, __: web.Request) -> web.StreamResponse:
        return web.json_response({"code": "OR-0011"}, status=410)

    second.answer = gone
    async with client.post(gateway_url + chat_path(owned_by(first, workers)), json={}) as answer:
        first.chunks.put_nowait(event_of_run(1, "a"))
        first.chunks.put_nowait(ConnectionResetError)
        whole = await answer.content.read()
    assert whole.startswith(event_of_run(1, "a") + b'event: error\ndata: {"code":"OR-0007"')
