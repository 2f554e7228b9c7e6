"""What the gateway promises to chat clients."""

import asyncio
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis
from yarl import URL

from tests.fakes.worker_server import (
    WorkerServer,
    dies_before_answering,
    dies_in_the_middle,
    draining,
    worker_server,
)
from tests.integration.gateway.chats import ORG, chat_path, owned_by
from tests.integration.gateway.conftest import SECONDS


async def test_requests_for_an_instance_go_to_one_worker_and_instances_are_spread(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    served: dict[str, set[str]] = {}
    for instance_id in [owned_by(w, workers) for w in workers for _ in range(2)]:
        for _ in range(3):
            async with client.post(gateway_url + chat_path(instance_id), json={"message": "hi"}) as answer:
                assert answer.status == 200
                served.setdefault(instance_id, set()).add((await answer.json())["worker"])

    assert all(len(by) == 1 for by in served.values())
    assert {next(iter(by)) for by in served.values()} == {"worker-a", "worker-b"}


async def test_a_completion_with_the_instance_in_its_body_goes_to_the_same_worker(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    for worker in workers:
        body = {"instance_id": owned_by(worker, workers), "message": "hi"}
        async with client.post(f"{gateway_url}/api/orgs/{ORG}/completion/chat", json=body) as answer:
            assert (await answer.json())["worker"] == worker.worker_id


@pytest.mark.parametrize("rest", ["runs/r1", "runs/r1/stream", "conversations", "conversations/c%2F1/messages?limit=2"])
async def test_runs_and_conversations_reach_a_worker_with_path_and_query_untouched(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession, rest: str
) -> None:
    async with client.get(URL(f"{gateway_url}/api/orgs/{ORG}/{rest}", encoded=True)) as answer:
        assert (await answer.json())["path"] == f"/api/orgs/{ORG}/{rest}"


async def test_the_worker_sees_the_body_and_the_callers_headers_but_none_of_the_hop(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    headers = {
        "Authorization": "Bearer token",
        "Connection": "keep-alive, X-Secret-Hop",
        "X-Secret-Hop": "1",
        "X-Forwarded-For": "6.6.6.6",
        "Last-Event-ID": "r:7",
    }
    async with client.post(gateway_url + chat_path(uuid4()), data=b'{"message":"\xc3\xa9"}', headers=headers) as answer:
        assert answer.status == 200
    ((method, _, seen, body),) = [r for w in workers for r in w.requests]

    assert (method, body) == ("POST", b'{"message":"\xc3\xa9"}')
    assert seen["authorization"] == "Bearer token"
    assert seen["last-event-id"] == "r:7"
    assert "x-secret-hop" not in seen
    assert seen["x-forwarded-for"] == "127.0.0.1", "only a trusted proxy may say who it forwards for"
    assert seen["x-forwarded-proto"] == "http"


async def test_events_arrive_one_by_one_as_the_worker_writes_them(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    worker = workers[0]
    worker.answer = worker.sse
    async with client.post(gateway_url + chat_path(owned_by(worker, workers)), json={}) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["X-Accel-Buffering"] == "no"
        for event in (b": ping\n\n", b"event: message\ndata: {}\n\n", b"event: metadata\ndata: {}\n\n"):
            # The next one is written only after this one was read, so nothing can have waited in a buffer.
            worker.chunks.put_nowait(event)
            assert await answer.content.readexactly(len(event)) == event
        worker.chunks.put_nowait(None)
        assert await answer.content.read() == b""


async def test_a_client_that_leaves_ends_the_workers_stream_at_once(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    worker = workers[0]
    worker.answer = worker.sse
    async with client.post(gateway_url + chat_path(owned_by(worker, workers)), json={}) as answer:
        worker.chunks.put_nowait(b": ping\n\n")
        await answer.content.readexactly(8)
        answer.close()
    await asyncio.wait_for(worker.client_left.wait(), SECONDS)


async def test_a_stream_whose_worker_dies_ends_with_an_error_event(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    worker = workers[0]
    worker.answer = worker.sse
    async with client.post(gateway_url + chat_path(owned_by(worker, workers)), json={}) as answer:
        whole = b'id: r:1\nevent: message\ndata: {"content":"a"}\n\n'
        worker.chunks.put_nowait(whole + b'id: r:2\nevent: message\ndata: {"cont')
        assert await answer.content.readexactly(len(whole)) == whole
        worker.chunks.put_nowait(ConnectionResetError)
        last = await answer.content.read()

    assert last.startswith(b'event: error\ndata: {"code":"OR-0007"'), "half an event must not reach the client"
    assert b'"retryable":true' in last
    assert last.endswith(b"\n\n")


async def test_an_answer_that_breaks_off_is_a_502(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    for worker in workers:
        worker.answer = dies_in_the_middle
    async with client.post(gateway_url + chat_path(uuid4()), json={}) as answer:
        assert answer.status == 502
        assert answer.content_type == "application/problem+json"
        assert (await answer.json())["code"] == "SY-0005"
    assert sum(len(w.requests) for w in workers) == 1, "nothing is retried once an answer has begun"


async def test_a_worker_that_is_gone_or_dies_before_answering_costs_no_request(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    gone, other = workers
    instance_id = owned_by(gone, workers)
    gone.answer = dies_before_answering
    for _ in range(2):
        async with client.post(gateway_url + chat_path(instance_id), json={}) as answer:
            assert (await answer.json())["worker"] == other.worker_id
    assert len(gone.requests) == 1, "a worker that just failed is tried last for a while"
    await gone.stop()
    async with client.post(gateway_url + chat_path(instance_id), json={}) as answer:
        assert (await answer.json())["worker"] == other.worker_id


async def test_a_draining_worker_hands_over_before_its_registry_record_says_so(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    leaving, other = workers
    leaving.answer = draining
    async with client.post(gateway_url + chat_path(owned_by(leaving, workers)), json={}) as answer:
        assert (await answer.json())["worker"] == other.worker_id
    other.answer = draining
    async with client.post(gateway_url + chat_path(owned_by(leaving, workers)), json={}) as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "SY-0002"


async def test_a_worker_marked_draining_gets_nothing_new(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession, redis: Redis
) -> None:
    leaving, other = workers
    await leaving.announce(redis, draining=True)
    async with client.post(gateway_url + chat_path(owned_by(leaving, workers)), json={}) as answer:
        assert (await answer.json())["worker"] == other.worker_id
    assert leaving.requests == []


async def test_without_a_worker_the_answer_is_a_503_that_says_when_to_come_back(
    gateway_url: str, client: aiohttp.ClientSession, redis: Redis
) -> None:
    async with client.post(gateway_url + chat_path(uuid4()), json={}) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["code"] == "SY-0004"

    async with worker_server("worker-late", redis), asyncio.timeout(SECONDS):
        while True:
            async with client.post(gateway_url + chat_path(uuid4()), json={}) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)


async def test_a_worker_whose_only_connection_was_kept_alive_too_long_is_asked_again(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession, redis: Redis
) -> None:
    only, other = workers
    await other.announce(redis, draining=True)
    async with client.post(gateway_url + chat_path("0" * 8 + "-0000-7000-8000-000000000000"), json={}) as answer:
        assert answer.status == 200
    # The same address, so the gateway's idle connection is stale and only a second attempt can work.
    await only.stop()
    await only.start()
    async with client.post(gateway_url + chat_path(uuid4()), json={}) as answer:
        assert (await answer.json())["worker"] == only.worker_id


async def test_a_body_over_a_mebibyte_is_refused_before_any_worker_sees_it(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    async with client.post(gateway_url + chat_path(uuid4()), data=b"x" * (1024 * 1024 + 1)) as answer:
        assert answer.status == 413
        assert (await answer.json(content_type=None))["code"] == "VA-0003"
    assert [r for w in workers for r in w.requests] == []


async def test_errors_of_a_worker_pass_through_untouched(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    async def limited(_: WorkerServer, __: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": "7"}
        return web.Response(
            status=503, text='{"code":"OR-0001"}', content_type="application/problem+json", headers=headers
        )

    for worker in workers:
        worker.answer = limited
    async with client.post(gateway_url + chat_path(uuid4()), json={}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
        assert await answer.text() == '{"code":"OR-0001"}'
    assert sum(len(w.requests) for w in workers) == 1


async def test_a_long_download_is_streamed_and_complete(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    content = bytes(range(256)) * 4096 * 3

    async def export(_: WorkerServer, __: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/octet-stream")

    for worker in workers:
        worker.answer = export
    async with client.get(f"{gateway_url}/api/orgs/{ORG}/conversations/c1/export") as answer:
        assert await answer.read() == content


async def test_a_long_download_whose_worker_dies_is_cut_short_and_never_looks_complete(
    gateway_url: str, workers: list[WorkerServer], client: aiohttp.ClientSession
) -> None:
    async def dies_late(_: WorkerServer, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _chunk in range(40):
            await response.write(b"x" * 65536)
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError

    for worker in workers:
        worker.answer = dies_late
    async with client.get(f"{gateway_url}/api/orgs/{ORG}/conversations/c1/export") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
