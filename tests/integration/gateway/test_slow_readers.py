"""What a client does not read, the gateway does not keep for it."""

import asyncio
import socket
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.fakes.worker_server import WorkerServer
from tests.integration.gateway.chats import RUN, chat_path
from tests.integration.gateway.conftest import SECONDS

EVENT_BYTES = 64 * 1024
OFFERED = 1024
"""64 MB: several times what the kernel's buffers hold on both ways."""


def event(number: int) -> bytes:
    head = f"id: {RUN}:{number}\nevent: message\ndata: ".encode()
    return head + b"x" * (EVENT_BYTES - len(head) - 2) + b"\n\n"


async def test_a_client_that_reads_nothing_stops_the_worker_and_is_dropped(
    gateway_url: str, workers: list[WorkerServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control_plane.gateway.event_relay.WATCH_SECONDS", 0.2)
    monkeypatch.setattr("control_plane.gateway.event_relay.STUCK_SECONDS", 2.0)
    for worker in workers:
        worker.answer = worker.sse
        for number in range(OFFERED):
            worker.chunks.put_nowait(event(number + 1))
    loop = asyncio.get_running_loop()
    url = urlsplit(gateway_url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (url.hostname, url.port))
        request = f"POST {chat_path(uuid4())} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n"
        await loop.sock_sendall(client, request.encode())
        async with asyncio.timeout(SECONDS):
            leaving = [asyncio.create_task(worker.client_left.wait()) for worker in workers]
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
    for task in leaving:
        task.cancel()
    taken = sum(OFFERED - worker.chunks.qsize() for worker in workers) * EVENT_BYTES
    assert taken < OFFERED * EVENT_BYTES / 2
    # It was the client's fault, and nobody asked another worker.
    assert sum(len(worker.requests) for worker in workers) == 1
