"""The control plane's gateway route on a real server, in front of workers that do as they are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar
from redis.asyncio import Redis

from control_plane.wiring import Resources
from deploy.local.ports import accepts, free_port
from tests.fakes.worker_server import WorkerServer, worker_server
from tests.integration.control_plane.callers import control_plane_settings
from tests.integration.control_plane.conftest import routes

__all__ = ["client", "gateway_url", "routes", "workers"]

SECONDS = 10.0


@pytest.fixture
async def workers(redis: Redis) -> AsyncIterator[list[WorkerServer]]:
    async with worker_server("worker-a", redis) as a, worker_server("worker-b", redis) as b:
        yield [a, b]


@pytest.fixture
async def gateway_url(
    routes: Litestar, postgres_url: str, redis_url: str, nats_url: str, tmp_path: Path
) -> AsyncIterator[str]:
    settings = control_plane_settings(postgres_url, redis_url, nats_url, tmp_path)
    port = free_port()
    routes.state.resources = Resources(settings)
    server = Server(routes, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(SECONDS):
        while not accepts(port):
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.stop()  # type: ignore[no-untyped-call]  # Granian's own
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(serving, SECONDS)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        yield session
