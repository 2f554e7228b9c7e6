"""What an open stream costs a worker while nothing comes: memory and CPU for each of thousands of clients that wait.

The worker is a whole one on real stores, in this process; its orchestrators wait instead of asking a model, so that
what is measured is the worker's own share. The clients are in another process. All of them wait for so many seconds;
then one goes on, whose run must still be this worker's, and then all the others.

    just bench idle [--clients 5000] [--seconds 120]
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from redis.asyncio import Redis
from rich.console import Console

from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.topology import rss_mb
from runtime_worker.turn.claims import CLAIMS
from shared.ids import new_id
from shared.open_files import allow_open_files
from tests.benchmarks.idle_clients import IdlePlan
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import RunningWorker, running_worker, worker_settings

CLIENTS = 5_000
SECONDS = 120.0
LIMIT_KB = 100.0
BASE_SECONDS = 5.0
TICK_SECONDS = 0.01
ENDING_AT_ONCE = 50


class Waiting(msgspec.Struct, frozen=True):
    """A worker over some seconds. Of CPU: milliseconds in each second, its own and those of Redis. `stall_ms` is the
    longest time that nothing else could run, `collection_ms` that of one garbage collection, `slack_ms` the
    least that was left of the time a run is vouched for."""

    cpu_ms: float
    redis_cpu_ms: float
    stall_ms: float
    collection_ms: float
    slack_ms: float


class IdleStreams(msgspec.Struct, frozen=True):
    """`kb_per_stream` is what the worker's resident memory grew by, heartbeats included, for each open stream.
    `alive` are those that waited to the end of the `waiting` time, `went_on` says whether one of them streamed on."""

    clients: int
    opened_seconds: float
    kb_per_stream: float
    base: Waiting
    waiting: Waiting
    alive: int
    went_on: bool
    ended_well: int

    @property
    def is_within_limit(self) -> bool:
        are_all_there = self.alive == self.ended_well == self.clients and self.went_on
        return self.kb_per_stream <= LIMIT_KB and self.waiting.slack_ms > 0 and are_all_there


def measure(clients: int = CLIENTS, seconds: float = SECONDS) -> IdleStreams:
    """Start everything, open so many streams, let each hear a heartbeat, wait, look, and let all of them end."""
    allow_open_files()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cadence-bench-")))
        redis, mongo, nats = (stack.enter_context(_running(server(home))) for server in (Valkey, Mongo, Nats))
        return uvloop.run(_measured(clients, seconds, home, redis.url, mongo.url, nats.url))


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Scripts:
    """What the orchestrators do: nothing, until they are let go."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Event] = deque()

    async def wait(self, request: RunRequest, sink: EventSink) -> None:
        may_go = asyncio.Event()
        self._waiting.append(may_go)
        await may_go.wait()
        await say(sink, "done")

    def let_go(self, count: int) -> int:
        """So many that have waited longest; how many wait still."""
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft().set()
        return len(self._waiting)


async def _measured(
    clients: int, seconds: float, home: Path, redis_url: str, mongo_url: str, broker_url: str
) -> IdleStreams:
    scripts = Scripts()
    async with FakeControlPlane() as control_plane:
        settings = worker_settings(
            control_plane=control_plane, redis_url=redis_url, mongo_url=mongo_url, broker_url=broker_url, home=home
        )
        serving = msgspec.structs.replace(settings.serving, heartbeat_seconds=15)
        settings = msgspec.structs.replace(settings, serving=serving)
        snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
        instance = control_plane.put(snapshot, tier="demand")
        builder = ScriptedBuilder()
        async with running_worker(settings, control_plane, builder) as running, _released(scripts):
            caller = await running.sign_in(instance.org_id)
            # Everything that a first run imports and opens is there before.
            await caller.chat(instance.instance_id, "hi")
            builder.script = scripts.wait
            base = await _over(BASE_SECONDS, running)
            gc.collect()
            before = rss_mb()
            url = f"{caller.url}/orchestrators/{instance.instance_id}/completion/stream"
            opening_at = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.benchmarks.idle_clients"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            others = _Clients(process)
            others.tell(msgspec.json.encode(IdlePlan(url, caller.headers["Authorization"], clients)))
            await others.expect("begun")
            opened_seconds = time.monotonic() - opening_at
            await others.expect("heard")
            kb_per_stream = (rss_mb() - before) * 1000 / clients
            waiting = await _over(seconds, running)
            alive = await others.waiting()
            scripts.let_go(1)
            await asyncio.sleep(1.0)
            went_on = await others.waiting() == alive - 1
            # Not all in one moment, which is another question.
            while scripts.let_go(ENDING_AT_ONCE):
                await asyncio.sleep(0.1)
            while await others.waiting():
                await asyncio.sleep(0.2)
            ended_well = int(await others.line())
            await process.wait()
    return IdleStreams(clients, opened_seconds, kb_per_stream, base, waiting, alive, went_on, ended_well)


class _Clients:
    """The process of the clients."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout

    def tell(self, line: bytes) -> None:
        self._to.write(line + b"\n")

    async def line(self) -> bytes:
        return await self._from.readline()

    async def expect(self, step: str) -> None:
        if await self.line() != b"ok\n":
            # It has said why on its standard error.
            raise RuntimeError(f"not all clients have {step}")

    async def waiting(self) -> int:
        self.tell(b"")
        return int(await self.line())


async def _over(seconds: float, running: RunningWorker) -> Waiting:
    """What the worker does in so many seconds."""
    loop, redis = asyncio.get_running_loop(), running.worker.redis
    cpu, redis_cpu, began_at = time.process_time(), await _cpu_of(redis), loop.time()
    stall = slack = 0.0
    least: float | None = None
    look_at = began_at
    collections = _Collections()
    while (now := loop.time()) < began_at + seconds:
        if now >= look_at:
            look_at = now + 0.25
            slack = await _slack_of(redis)
            least = slack if least is None else min(least, slack)
            now = loop.time()
        await asyncio.sleep(TICK_SECONDS)
        stall = max(stall, loop.time() - now - TICK_SECONDS)
    passed = loop.time() - began_at
    return Waiting(
        (time.process_time() - cpu) * 1000 / passed,
        (await _cpu_of(redis) - redis_cpu) * 1000 / passed,
        stall * 1000,
        collections.stop() * 1000,
        least or 0.0,
    )


class _Collections:
    """Times garbage collections."""

    def __init__(self) -> None:
        self._began_at = self._longest = 0.0
        gc.callbacks.append(self._called)

    def _called(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began_at = time.perf_counter()
        else:
            self._longest = max(self._longest, time.perf_counter() - self._began_at)

    def stop(self) -> float:
        """Seconds that the longest took."""
        gc.callbacks.remove(self._called)
        return self._longest


async def _cpu_of(redis: Redis) -> float:
    info: dict[str, Any] = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _slack_of(redis: Redis) -> float:
    """Milliseconds until the run that was vouched for longest ago would be taken for lost."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.zrange(CLAIMS, 0, 0, withscores=True)
        (second, micros), first = await pipe.execute()
    return first[0][1] - (second * 1000 + micros / 1000) if first else 0.0


@asynccontextmanager
async def _released(scripts: Scripts) -> AsyncIterator[None]:
    """Whatever happens in the block, nobody waits afterwards."""
    try:
        yield
    finally:
        scripts.let_go(sys.maxsize)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="just bench idle")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long all of them wait")
    given = parser.parse_args(arguments)
    found = measure(given.clients, given.seconds)
    waiting, base = found.waiting, found.base
    print_ = Console(soft_wrap=True).print
    print_(
        f"{found.clients} idle streams, opened in {found.opened_seconds:.0f} s: {found.kb_per_stream:.1f} KB each "
        f"(at most {LIMIT_KB:.0f})\n"
        f"over {given.seconds:.0f} s: {waiting.cpu_ms:.1f} ms of CPU per second (without them {base.cpu_ms:.1f}), "
        f"Redis {waiting.redis_cpu_ms:.1f} ({base.redis_cpu_ms:.1f}); longest stall {waiting.stall_ms:.1f} ms "
        f"({base.stall_ms:.1f}), collection {waiting.collection_ms:.1f}; "
        f"at least {waiting.slack_ms:.0f} ms left of what runs are vouched for\n"
        f"{found.alive} alive after that, one of them {'went' if found.went_on else 'did not go'} on, "
        f"{found.ended_well} ended well"
    )
    raise SystemExit(0 if found.is_within_limit else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
