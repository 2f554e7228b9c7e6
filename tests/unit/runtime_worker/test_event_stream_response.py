"""The way from a run's events to the server's `send`, whether that takes a chunk at once or makes us wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import pytest
from litestar import Litestar, get
from litestar.exceptions import LitestarException
from litestar.response import Response
from redis.asyncio import Redis

from runtime_worker.http.request_ids import RequestIds
from runtime_worker.stream.journal import WINDOW_SECONDS, EventJournal
from runtime_worker.stream.response import EventStreamResponse
from runtime_worker.stream.run_stream import RunStream
from shared.ids import new_id

RUN_ID = UUID("01920000-0000-7000-8000-000000000001")
Message = dict[str, Any]


class TakenAtOnce:
    """What Granian's `send` returns: awaitable, and done already."""

    def __await__(self) -> Any:
        return iter(())


class Server:
    """The server's end of one request. While `is_slow`, a chunk is taken only when the client has `read` one."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self._is_slow = is_slow
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self._reads = asyncio.Semaphore(0)
        self._is_broken = False

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    def send(self, message: Message) -> Awaitable[None]:
        if self._is_slow and message["type"] == "http.response.body":
            return self._send_slowly(message)
        if self._is_broken:
            raise OSError("the connection is broken")
        self.sent.append(message)
        return TakenAtOnce()

    async def _send_slowly(self, message: Message) -> None:
        if self._is_broken:
            raise OSError("the connection is broken")
        self.sent.append(message)
        await self._reads.acquire()

    def read(self) -> None:
        self._reads.release()

    def breaks(self) -> None:
        self._is_broken = True

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def is_finished(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


class Request:
    """One GET of a stream, through the application and its layers."""

    def __init__(self, stream: RunStream, server: Server) -> None:
        self.has_disconnected = False

        def gone() -> None:
            self.has_disconnected = True

        @get("/")
        async def events() -> Response[None]:
            return EventStreamResponse(stream, heartbeat_seconds=60, on_disconnect=gone)

        app = Litestar([events], openapi_config=None, logging_config=None)
        app.asgi_handler = RequestIds(app.asgi_handler)
        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": [],
            "scheme": "http", "server": ("test", 80), "client": ("test", 1), "http_version": "1.1", "root_path": "",
            "state": {}, "extensions": {}, "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, server.receive, server.send))  # type: ignore[arg-type]  # a plain scope


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_true():
            await asyncio.sleep(0)


@pytest.fixture
def stream() -> RunStream:
    return RunStream(RUN_ID, is_followed=True)


async def test_events_leave_as_they_come_and_the_last_one_ends_the_response(stream: RunStream) -> None:
    server = Server()
    request = Request(stream, server)
    stream.message("one", "node")
    await until(lambda: len(server.bodies) == 1)
    stream.message("two", "node")
    await until(lambda: len(server.bodies) == 2)
    stream.end("metadata", {"final": True})
    await request.task
    assert b'"one"' in server.bodies[0]
    assert b'"two"' in server.bodies[1]
    assert b'"final":true' in server.bodies[-1]
    assert server.is_finished


async def test_what_comes_while_a_slow_server_takes_a_chunk_leaves_together_and_in_order(stream: RunStream) -> None:
    server = Server(is_slow=True)
    request = Request(stream, server)
    stream.message("one", "node")
    await until(lambda: len(server.bodies) == 1)
    for content in ("two", "three"):
        stream.message(content, "node")
        await asyncio.sleep(0)
    assert len(server.bodies) == 1
    server.read()
    await until(lambda: len(server.bodies) == 2)
    assert server.bodies[1].index(b'"two"') < server.bodies[1].index(b'"three"')
    stream.end("metadata", {"final": True})
    server.read()
    await until(lambda: server.is_finished)
    server.read()
    await request.task


async def test_a_slow_server_takes_nothing_that_the_journal_does_not_let_clients_have_yet() -> None:
    may_show = [True]
    journal = EventJournal(cast("Redis", None), keep_seconds=1, is_vouched_for=lambda: may_show[0])
    stream = RunStream(RUN_ID, is_followed=True, log=journal.begin(new_id(), RUN_ID))
    stream.record()
    server = Server(is_slow=True)
    request = Request(stream, server)
    stream.message("one", "node")
    await until(lambda: len(server.bodies) == 1)
    may_show[0] = False
    stream.message("two", "node")
    server.read()
    await asyncio.sleep(10 * WINDOW_SECONDS)
    assert len(server.bodies) == 1
    may_show[0] = True
    journal.show()
    await until(lambda: len(server.bodies) == 2)
    assert b'"two"' in server.bodies[1]
    server.left.set()
    await request.task


@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_client_that_leaves_ends_the_response(stream: RunStream, *, is_slow: bool) -> None:
    server = Server(is_slow=is_slow)
    request = Request(stream, server)
    stream.message("one", "node")
    await until(lambda: len(server.bodies) == 1)
    server.left.set()
    await until(lambda: request.has_disconnected)
    stream.message("two", "node")
    server.read()
    await request.task
    assert len(server.bodies) == 1
    assert stream.text == "onetwo"


@pytest.mark.parametrize("is_slow", [False, True])
async def test_a_server_that_cannot_send_fails_the_response_only(stream: RunStream, *, is_slow: bool) -> None:
    server = Server(is_slow=is_slow)
    request = Request(stream, server)
    stream.message("one", "node")
    await until(lambda: len(server.bodies) == 1)
    server.breaks()
    stream.message("two", "node")
    server.read()
    with pytest.raises(LitestarException, match="after response started"):
        await request.task
    stream.message("three", "node")
    assert stream.text == "onetwothree"
