"""A whole worker on Granian in the test's own loop, and callers who talk to it over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import ClientResponse, ClientSession
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar
from redis.asyncio import Redis

from deploy.local.ports import free_port
from runtime_worker.__main__ import BACKPRESSURE
from runtime_worker.app import create_app, create_routes
from runtime_worker.pool.entry import Builder
from runtime_worker.wiring import Worker
from shared.clock import SystemClock
from shared.ids import new_id
from shared.security.permissions import Role
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenSigner
from shared.settings import (
    PackageStoreSettings,
    ProcessSettings,
    SecuritySettings,
    ServingSettings,
    WorkerSettings,
)
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.fakes.instances import KEYRING

SECRET = "a secret of the tests that is long enough"
SECONDS = 30.0
"""How long anything may take that has to happen."""

_idle_routes: list[Litestar] = []
"""Of workers that have ended: to make the routes takes longer than most tests."""


class Event(msgspec.Struct):
    id: str
    name: str
    data: dict[str, Any]


class Caller:
    """Somebody with a session, in one organization."""

    def __init__(self, http: ClientSession, url: str, user_id: UUID, org_id: UUID, token: str) -> None:
        self.http = http
        self.url = f"{url}/api/orgs/{org_id}"
        self.user_id = user_id
        self.org_id = org_id
        self.headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """(status, body); the body is JSON of either kind."""
        async with self.http.request(method, self.url + path, headers=self.headers, **kwargs) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if raw else None

    async def chat(self, instance_id: UUID, message: str, **body: Any) -> tuple[int, Any]:
        path = f"/orchestrators/{instance_id}/completion/chat"
        return await self.call("POST", path, json={"message": message, **body})

    @asynccontextmanager
    async def streaming(self, instance_id: UUID, message: str, **body: Any) -> AsyncIterator["Stream"]:
        path = f"{self.url}/orchestrators/{instance_id}/completion/stream"
        async with self.http.post(path, headers=self.headers, json={"message": message, **body}) as response:
            yield Stream(response)

    async def stream(self, instance_id: UUID, message: str, **body: Any) -> list[Event]:
        async with self.streaming(instance_id, message, **body) as stream:
            return [event async for event in stream]


class Stream:
    """The events of one response as they come; `first` is the opening metadata."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self._buffer = b""

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self.next()) is not None:
            yield event

    async def next(self) -> Event | None:
        assert self.response.status == 200, await self.response.text()
        async with asyncio.timeout(SECONDS):
            while True:
                head, separator, rest = self._buffer.partition(b"\n\n")
                if separator:
                    self._buffer = rest
                    if head.startswith(b":"):
                        continue
                    lines = dict(line.split(": ", 1) for line in head.decode().split("\n"))
                    return Event(lines["id"], lines["event"], json.loads(lines["data"]))
                chunk = await self.response.content.readany()
                if not chunk:
                    assert self._buffer == b"", "the stream ended inside an event"
                    return None
                self._buffer += chunk


class RunningWorker:
    def __init__(self, url: str, worker: Worker, control_plane: FakeControlPlane, http: ClientSession) -> None:
        self.url = url
        self.worker = worker
        self.control_plane = control_plane
        self.http = http

    async def sign_in(self, org_id: UUID, role: Role | None = "user", user_id: UUID | None = None) -> Caller:
        user_id = user_id or new_id()
        self.control_plane.admit(user_id, org_id, role)
        clock = SystemClock()
        session = await SessionStore(self.worker.redis, clock).start(user_id, timedelta(minutes=5))
        token = TokenSigner(SECRET).issue(
            user_id, session.session_id, issued_at=session.created_at, expires_at=session.expires_at
        )
        return Caller(self.http, self.url, user_id, org_id, token)

    async def ready(self) -> tuple[int, Any]:
        async with self.http.get(self.url + "/health/ready") as response:
            return response.status, await response.json()


def worker_settings(
    *, control_plane: FakeControlPlane, redis_url: str, mongo_url: str, broker_url: str, home: Path, drain: int = 5
) -> WorkerSettings:
    port = free_port()
    return WorkerSettings(
        process=ProcessSettings("development", "INFO", "json"),
        security=SecuritySettings(SECRET, "HS256", 30, KEYRING, TOKEN),
        packages=PackageStoreSettings(home / "packages", None, None, "us-east-1", None, None),
        host="127.0.0.1",
        port=port,
        public_url=f"http://127.0.0.1:{port}",
        control_plane_url=control_plane.url,
        mongo_url=mongo_url,
        redis_url=redis_url,
        broker_url=broker_url,
        package_cache=home / "package-cache",
        allow_private_model_hosts=True,
        serving=ServingSettings(drain_seconds=drain, heartbeat_seconds=1),
    )


@asynccontextmanager
async def running_worker(
    settings: WorkerSettings, control_plane: FakeControlPlane, builder: Builder | None
) -> AsyncIterator[RunningWorker]:
    died: list[str] = []
    routes = _idle_routes.pop() if _idle_routes else create_routes()
    app = create_app(settings, builder=builder, on_death=lambda: died.append("a background task died"), routes=routes)
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        backpressure=BACKPRESSURE,
        websockets=False,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        async with ClientSession() as http:
            await eventually(lambda: answers(http, settings.public_url + "/health"))
            worker: Worker = app.state.worker
            # In idle moments a worker looks through all of its memory, which in here is that of the tests.
            worker._heap._is_idle = lambda: False
            # Others that would have to renew first there are none of.
            worker._turning.lost_runs._patient_until = float("-inf")
            yield RunningWorker(settings.public_url, worker, control_plane, http)
    finally:
        server.stop()  # type: ignore[no-untyped-call]  # Granian's embedded server is not annotated here
        await serving
    _idle_routes.append(routes)
    assert died == []


async def ids_of_what_is_there(
    member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> dict[str, str]:
    """A real id for each that the paths of a worker's routes name, all of the member's organization."""
    _, made = await member.chat(instance.instance_id, "secret plans")
    return {
        "org_id": str(member.org_id),
        "instance_id": str(instance.instance_id),
        "central_id": str(control_plane.point(instance).central_id),
        "conversation_id": made["conversation_id"],
        "run_id": made["run_id"],
    }


async def eventually(check: Any, seconds: float = SECONDS) -> Any:
    """Wait until `check` (a function or coroutine function) gives something true, and return it."""
    async with asyncio.timeout(seconds):
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


async def flush(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()


async def answers(http: ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except OSError:
        return False
