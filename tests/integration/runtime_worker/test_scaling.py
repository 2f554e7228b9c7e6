"""A fleet that grows and shrinks under people who talk to it through the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from msgspec.structs import replace
from redis.asyncio import Redis

from control_plane.gateway.directory import WorkerDirectory
from control_plane.gateway.gateway import Gateway
from deploy.local.ports import accepts, free_port
from runtime_worker.engines.base import EventSink, RunRequest
from shared.clock import SystemClock
from shared.ids import new_id
from shared.settings import WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from shared.workers import WorkerRegistry
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import (
    Caller,
    RunningWorker,
    eventually,
    running_worker,
    worker_settings,
)

TALKERS = 6


@pytest.fixture
async def gateway_url(redis_url: str) -> AsyncIterator[str]:
    """The gateway alone on a real server. Whatever it cannot answer is a cut connection, and so a failure."""
    clock = SystemClock()
    async with Redis.from_url(redis_url) as redis:
        gateway = Gateway(WorkerDirectory(WorkerRegistry(redis, clock), clock), ())
        async with gateway.running():

            async def app(scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] == "http":
                    await gateway(scope, receive, send)
                    return
                while (message := await receive())["type"] != "lifespan.shutdown":
                    await send({"type": message["type"] + ".complete"})
                await send({"type": "lifespan.shutdown.complete"})

            port = free_port()
            server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
            serving = asyncio.create_task(server.serve())
            await eventually(lambda: accepts(port))
            yield f"http://127.0.0.1:{port}"
            server.stop()  # type: ignore[no-untyped-call]  # Granian's own
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(serving, 10)


class Fleet:
    """Workers that come and go; each has a stack of its own, so that any of them can leave first."""

    def __init__(self, settings: WorkerSettings, control_plane: FakeControlPlane, home: Path) -> None:
        self._settings = settings
        self._control_plane = control_plane
        self._home = home
        self.builder = ScriptedBuilder(slow_answer)
        self.workers: list[tuple[RunningWorker, AsyncExitStack]] = []

    async def add(self) -> RunningWorker:
        stack = AsyncExitStack()
        settings = worker_settings(
            control_plane=self._control_plane,
            redis_url=self._settings.redis_url,
            mongo_url=self._settings.mongo_url,
            broker_url=self._settings.broker_url,
            home=self._home,
            drain=1,
        )
        worker = await stack.enter_async_context(running_worker(settings, self._control_plane, self.builder))
        self.workers.append((worker, stack))
        await eventually(lambda: worker.worker.topology.is_serving)
        return worker

    async def remove(self) -> None:
        worker, stack = self.workers.pop(0)
        await worker.worker.drain()
        await stack.aclose()


@asynccontextmanager
async def fleet_of(settings: WorkerSettings, control_plane: FakeControlPlane, home: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(settings, control_plane, home)
    try:
        yield fleet
    finally:
        while fleet.workers:
            await fleet.workers.pop()[1].aclose()


async def slow_answer(request: RunRequest, sink: EventSink) -> None:
    for number in range(10):
        await say(sink, f"{number} ")
        await asyncio.sleep(0.01)


async def test_from_one_worker_to_four_to_two_no_request_fails(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    gateway_url: str,
    tmp_path: Path,
) -> None:
    ids = [instance.instance_id]
    for number in range(11):
        snapshot = replace(instance, instance_id=new_id())
        ids.append(control_plane.put(snapshot, tier="hot" if number % 2 else "demand").instance_id)
    failures: list[Any] = []
    answered = 0
    is_over = False

    async def talk(caller: Caller, first: int) -> None:
        nonlocal answered
        number = first
        while not is_over:
            number += 1
            events = await caller.stream(ids[number % len(ids)], "go")
            text = "".join(event.data["content"] for event in events if event.name == "message")
            if events[-1].data.get("status") != "completed" or text != "0 1 2 3 4 5 6 7 8 9 ":
                failures.append(events[-1])
            answered += 1

    async def for_a_while() -> None:
        until = answered + 4 * TALKERS
        await eventually(lambda: answered >= until or failures, seconds=60)

    async with fleet_of(settings, control_plane, tmp_path) as fleet:
        first = await fleet.add()
        member = await first.sign_in(instance.org_id)
        async with asyncio.TaskGroup() as talking:
            for number in range(TALKERS):
                caller = Caller(member.http, gateway_url, member.user_id, member.org_id, "")
                caller.headers = member.headers
                talking.create_task(talk(caller, number))
            await for_a_while()
            for _ in range(3):
                await fleet.add()
            await for_a_while()
            # The callers' own HTTP client belongs to the first worker, so the others go.
            fleet.workers.append(fleet.workers.pop(0))
            for _ in range(2):
                await fleet.remove()
            await for_a_while()
            is_over = True
    assert failures == []
