"""A runtime worker as the gateway sees one: a real HTTP server that answers as a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web
from redis.asyncio import Redis

from deploy.local.ports import free_port
from shared.clock import SystemClock
from shared.workers import WorkerRecord, WorkerRegistry

Answer = Callable[["WorkerServer", web.Request], Awaitable[web.StreamResponse]]

DRAINING = '{"code": "SY-0002", "title": "Shutting down", "status": 503, "type": "about:blank", "detail": "leaving"}'


async def plain(worker: "WorkerServer", request: web.Request) -> web.StreamResponse:
    return web.json_response({"worker": worker.worker_id, "path": request.raw_path})


async def draining(worker: "WorkerServer", request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text=DRAINING, content_type="application/problem+json")


async def dies_before_answering(worker: "WorkerServer", request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def dies_in_the_middle(worker: "WorkerServer", request: web.Request) -> web.StreamResponse:
    """Promises 100 bytes and sends 5."""
    response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b"12345")
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


class WorkerServer:
    """`answer` decides; `sse` answers with the chunks a test puts into `chunks`: None ends the stream, an exception
    type cuts the connection.
    """

    def __init__(self, worker_id: str, answer: Answer = plain) -> None:
        self.worker_id = worker_id
        self.answer = answer
        self.url = ""
        self.port = 0
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.chunks: asyncio.Queue[bytes | type[Exception] | None] = asyncio.Queue()
        self.client_left = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def sse(self, _: "WorkerServer", request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            while (chunk := await self.chunks.get()) is not None:
                if isinstance(chunk, type):
                    assert request.transport is not None
                    request.transport.abort()
                    raise ConnectionResetError
                await response.write(chunk)
        except asyncio.CancelledError:
            self.client_left.set()
            raise
        await response.write_eof()
        return response

    async def start(self) -> None:
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # So that a disconnect is seen while the handler waits for its next chunk.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        # The port stays the same over a restart.
        self.port = self.port or free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def announce(self, redis: Redis, *, draining: bool = False) -> None:
        record = WorkerRecord(self.worker_id, self.url, "0", datetime.now(UTC), draining=draining, capacity=10)
        await WorkerRegistry(redis, SystemClock()).announce(record)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/health/"):
            return await plain(self, request)
        body = await request.read()
        self.requests.append(
            (request.method, request.raw_path, {name.lower(): value for name, value in request.headers.items()}, body)
        )
        return await self.answer(self, request)


@asynccontextmanager
async def worker_server(worker_id: str, redis: Redis | None = None) -> AsyncIterator[WorkerServer]:
    """A started worker, announced when a registry is given."""
    worker = WorkerServer(worker_id)
    await worker.start()
    try:
        if redis is not None:
            await worker.announce(redis)
        yield worker
    finally:
        await worker.stop()
