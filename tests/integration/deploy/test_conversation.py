"""`cadence chat` against a server that speaks the chat protocol."""

from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from deploy.demo.api import CadenceAPI, SeedFailed
from deploy.stack.conversation import Conversation, find_orchestrator

ANSWER = """id: r:1
event: metadata
data: {"run_id": "r", "conversation_id": "c-1"}

: still there

id: r:2
event: tool_start
data: {"tool": "demo.add", "call_id": "1", "args": {"a": [1]}}

id: r:3
event: tool_end
data: {"tool": "demo.add", "call_id": "1", "result": "3"}

id: r:4
event: message
data: {"content": "It is ", "role": "assistant"}

id: r:5
event: message
data: {"content": "[3].", "role": "assistant"}

"""
LAST = 'event: metadata\ndata: {"final": true, "usage": {"input_tokens": 5, "output_tokens": 7}, "duration_ms": 90}\n\n'
FAILED = 'event: error\ndata: {"code": "LL-0003", "message": "Too many requests", "retryable": true}\n\n'


class Platform:
    """Two organizations, an orchestrator each."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.ending = LAST
        self.status = 200

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/orgs", self._organizations)
        app.router.add_get("/api/orgs/{org}/orchestrators", self._orchestrators)
        app.router.add_post("/stream/completion/stream", self._stream)
        return app

    async def _organizations(self, _: web.Request) -> web.Response:
        return web.json_response({"items": [{"org_id": "o1"}, {"org_id": "o2"}], "next_cursor": None})

    async def _orchestrators(self, request: web.Request) -> web.Response:
        org = request.match_info["org"]
        item = {"instance_id": f"i-{org}", "name": f"Assistant of {org}"}
        return web.json_response({"items": [item], "next_cursor": None})

    async def _stream(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if self.status != 200:
            problem = {"detail": "Not loaded", "code": "OR-0002"}
            return web.json_response(problem, status=self.status)
        return web.Response(text=ANSWER + self.ending, content_type="text/event-stream")


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def server(platform: Platform) -> AsyncIterator[TestServer]:
    server = TestServer(platform.app())
    async with server:
        yield server


async def say(server: TestServer, *texts: str, as_json: bool = False) -> tuple[list[bool], str]:
    output = StringIO()
    console = Console(file=output, width=80)
    async with aiohttp.ClientSession() as session:
        conversation = Conversation(session, str(server.make_url("/stream")), "t", console, as_json=as_json)
        outcomes = [await conversation.say(text) for text in texts]
    return outcomes, output.getvalue()


async def test_the_answer_and_the_tools_are_shown(server: TestServer) -> None:
    outcomes, shown = await say(server, "How much?")
    assert outcomes == [True]
    assert 'demo.add {"a": [1]}' in shown
    assert "It is [3]." in shown
    assert "5 + 7 tokens" in shown


async def test_the_next_message_goes_on_with_the_conversation(platform: Platform, server: TestServer) -> None:
    await say(server, "One", "Two")
    assert platform.bodies == [{"message": "One"}, {"message": "Two", "conversation_id": "c-1"}]


async def test_a_failed_run_is_shown_and_reported(platform: Platform, server: TestServer) -> None:
    platform.ending = FAILED
    outcomes, shown = await say(server, "How much?")
    assert outcomes == [False]
    assert "Too many requests (LL-0003)" in shown


async def test_a_stream_that_just_stops_is_not_an_answer(platform: Platform, server: TestServer) -> None:
    platform.ending = ""
    outcomes, shown = await say(server, "How much?")
    assert outcomes == [False]
    assert "ended before the answer did" in shown


async def test_a_refusal_is_shown_with_its_reason(platform: Platform, server: TestServer) -> None:
    platform.status = 503
    outcomes, shown = await say(server, "How much?")
    assert outcomes == [False]
    assert "HTTP 503: Not loaded (OR-0002)" in shown


async def test_as_json_every_event_is_a_line(server: TestServer) -> None:
    _, shown = await say(server, "How much?", as_json=True)
    assert [line[:20] for line in shown.splitlines()][:2] == ['{"event": "metadata"', '{"event": "tool_star']


@pytest.mark.parametrize("wanted", ["i-o2", "Assistant of o2"])
async def test_an_orchestrator_is_found_by_id_and_by_name(server: TestServer, wanted: str) -> None:
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(str(server.make_url("")), session)
        assert await find_orchestrator(api, wanted) == "/api/orgs/o2/orchestrators/i-o2"


@pytest.mark.parametrize("wanted", [None, "nobody"])
async def test_a_choice_that_is_none_lists_what_there_is(server: TestServer, wanted: str | None) -> None:
    async with aiohttp.ClientSession() as session:
        api = CadenceAPI(str(server.make_url("")), session)
        with pytest.raises(SeedFailed, match=r"Assistant of o1 .*Assistant of o2"):
            await find_orchestrator(api, wanted)
