"""Requests no client library would make, written byte by byte."""

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.fakes.worker_server import WorkerServer
from tests.integration.gateway.conftest import SECONDS

ORG = str(uuid4())
CHAT = f"/api/orgs/{ORG}/orchestrators/{uuid4()}/completion/chat"


async def status_of(gateway_url: str, target: str, *headers: bytes, method: str = "GET") -> int:
    host, port = urlsplit(gateway_url).hostname, urlsplit(gateway_url).port
    reader, writer = await asyncio.open_connection(host, port)
    head = [f"{method} {target} HTTP/1.1".encode(), b"Host: gateway", b"Connection: close", *headers, b"", b""]
    writer.write(b"\r\n".join(head))
    async with asyncio.timeout(SECONDS):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "target",
    [
        "/internal/orchestrators/{id}/graph",
        "//internal/changes",
        "/%69nternal/changes",
        "/api/../internal/changes",
        "/api/orgs/{org}/runs/../../../../internal/changes",
        "/api/orgs/{org}/runs/..%2f..%2f..%2f..%2finternal/changes",
        "/api/orgs/{org}/conversations/%2e%2e/%2e%2e/%2e%2e/%2e%2e/internal/changes",
        "/api/orgs/{org}%2f..%2f..%2f..%2finternal/runs/x",
        "/api/orgs/{org}/orchestrators/{id}/completion/..",
        "http://127.0.0.1:1/internal/changes",
        "/api/orgs/{org}/completion/chat/../../../../../internal/changes",
    ],
)
async def test_no_spelling_of_a_path_leads_past_the_chat_routes_of_a_worker(
    gateway_url: str, workers: list[WorkerServer], target: str
) -> None:
    await status_of(gateway_url, target.format(org=ORG, id=uuid4()))

    for _, path, _, _ in [request for worker in workers for request in worker.requests]:
        assert path.startswith(f"/api/orgs/{ORG}/"), path


@pytest.mark.parametrize("target", ["/internal/changes", "//internal/changes", "/%69nternal/changes"])
async def test_what_is_for_workers_is_for_nobody_else(
    gateway_url: str, workers: list[WorkerServer], target: str
) -> None:
    assert await status_of(gateway_url, target) in (401, 404)
    assert await status_of(gateway_url, target, b"Authorization: Bearer \xc3\xa9") in (401, 404)


async def test_a_header_that_is_no_text_harms_nothing(gateway_url: str, workers: list[WorkerServer]) -> None:
    assert await status_of(gateway_url, CHAT, b"X-Odd: \xff\xfe\xe9", method="POST") == 200


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Content-Length: +5",),
    ],
)
async def test_a_body_of_two_lengths_reaches_no_worker(
    gateway_url: str, workers: list[WorkerServer], headers: tuple[bytes, ...]
) -> None:
    # What follows would be a request of its own to whoever believes the other length.
    smuggled = (*headers, b"", b"0", b"", b"GET /internal/changes HTTP/1.1", b"Host: worker")
    await status_of(gateway_url, CHAT, *smuggled, method="POST")

    assert all(path == CHAT and body == b"" for worker in workers for _, path, _, body in worker.requests)
