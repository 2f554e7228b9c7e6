"""A chat client and admin as the tests need one: every answer with its status, every stream as its events."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from tests.isolation.canaries import ANSWERS, WATCH


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: Any
    headers: dict[str, str]


class Event(msgspec.Struct, frozen=True):
    """One event of a stream; `seq` is the number in its id."""

    name: str
    seq: int
    data: dict[str, Any]


class Stream(msgspec.Struct):
    """A stream read to its end."""

    status: int
    events: list[Event]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.name == name]

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @property
    def first(self) -> dict[str, Any]:
        return self.events[0].data

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1].data

    @property
    def text(self) -> str:
        return "".join(data["content"] for data in self.of("message"))

    @property
    def is_completed(self) -> bool:
        return self.status == 200 and self.last.get("final") is True and self.last["status"] == "completed"


class Client:
    """One caller. Keeps its token; `call` never raises for a status. What it is answered, the watch looks at."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self.session = session
        self.token = ""
        self.loaded: set[str] = set()
        """The paths of the orchestrators that it has loaded."""

    async def login(self, username: str, password: str) -> None:
        answer = await self.call("POST", "/api/auth/login", json={"username": username, "password": password})
        assert answer.status in (200, 201), answer
        self.token = answer.body["token"]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def user_id(self) -> str:
        """Of the token's owner; empty for a guest."""
        _, payload, *_ = [*self.token.split("."), ""]
        return str(json.loads(base64.urlsafe_b64decode(payload + "==="))["sub"]) if payload else ""

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.request(method, self.base_url + path, headers=headers, **options) as response:
            raw = await self.heard(response)
            body = json.loads(raw) if "json" in response.content_type and raw else raw
            return Answer(response.status, body, dict(response.headers))

    async def made(self, method: str, path: str, **options: Any) -> Any:
        """The body of an answer that must be a success."""
        answer = await self.call(method, path, **options)
        assert answer.status < 300, answer
        return answer.body

    @asynccontextmanager
    async def open_stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a run as they come; leaving the block hangs up."""
        url = self.base_url + path
        async with self.session.post(url, json=body, headers=self.headers) as response:
            assert response.status == 200, (response.status, await self.heard(response))
            yield self.events(response)

    async def stream(self, path: str, message: str, **body: Any) -> Stream:
        url = self.base_url + path
        async with self.session.post(url, json={"message": message, **body}, headers=self.headers) as response:
            if response.status != 200:
                await self.heard(response)
                return Stream(response.status, [])
            return Stream(200, [event async for event in self.events(response)])

    async def heard(self, response: aiohttp.ClientResponse) -> bytes:
        """The body of an answer."""
        raw = await response.read()
        WATCH.count(ANSWERS)
        WATCH.hear(self.user_id, response.url.path, str(response.headers).encode() + raw)
        return raw

    async def events(self, response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
        """Those of an answer that is a stream, as they come."""
        WATCH.count(ANSWERS)

        async def lines() -> AsyncIterator[bytes]:
            async for line in response.content:
                WATCH.hear(self.user_id, response.url.path, line)
                yield line

        async for event in read_events(lines()):
            yield event


async def read_events(lines: AsyncIterator[bytes] | aiohttp.StreamReader) -> AsyncIterator[Event]:
    """Server-sent events; comments are skipped."""
    name, seq, data = "", 0, ""
    async for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield Event(name, seq, json.loads(data))
            name, seq, data = "", 0, ""
        elif line.startswith("id:"):
            seq = int(line.rpartition(":")[2])
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
