"""What an open stream costs a worker while nothing comes: memory for each of thousands of clients that wait.

The worker is a whole one on real stores, in this process; its orchestrators wait instead of asking a model, so that
what is measured is the worker's own share. The clients are in another process.

    python -m tests.benchmarks.idle_streams [--clients 5000]
"""

import argparse
import asyncio
import gc
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console

from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.topology import rss_mb
from shared.ids import new_id
from shared.open_files import allow_open_files
from tests.benchmarks.idle_clients import IdlePlan
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import running_worker, worker_settings

CLIENTS = 5_000
LIMIT_KB = 100.0


class IdleStreams(msgspec.Struct, frozen=True):
    """`kb_per_stream` is what the worker's resident memory grew by, heartbeats included, for each open stream."""

    clients: int
    kb_per_stream: float
    ended_well: int

    @property
    def is_within_limit(self) -> bool:
        return self.kb_per_stream <= LIMIT_KB and self.ended_well == self.clients


def measure(clients: int = CLIENTS) -> IdleStreams:
    """Start everything, open so many streams, let each hear a heartbeat, look, and let all of them end."""
    allow_open_files()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cadence-bench-")))
        redis, mongo, nats = (stack.enter_context(_running(server(home))) for server in (Valkey, Mongo, Nats))
        return uvloop.run(_measured(clients, home, redis.url, mongo.url, nats.url))


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def _measured(clients: int, home: Path, redis_url: str, mongo_url: str, broker_url: str) -> IdleStreams:
    go_on = asyncio.Event()

    async def waiting(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()
        await say(sink, "done")

    async with FakeControlPlane() as control_plane:
        settings = worker_settings(
            control_plane=control_plane, redis_url=redis_url, mongo_url=mongo_url, broker_url=broker_url, home=home
        )
        serving = msgspec.structs.replace(settings.serving, heartbeat_seconds=15)
        settings = msgspec.structs.replace(settings, serving=serving)
        snapshot = instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id())
        instance = control_plane.put(snapshot, tier="demand")
        builder = ScriptedBuilder()
        async with running_worker(settings, control_plane, builder) as running, _released(go_on):
            running.worker.table.capacity = max(running.worker.table.capacity, clients)
            caller = await running.sign_in(instance.org_id)
            # Everything that a first run imports and opens is there before.
            await caller.chat(instance.instance_id, "hi")
            builder.script = waiting
            gc.collect()
            before = rss_mb()
            url = f"{caller.url}/orchestrators/{instance.instance_id}/completion/stream"
            plan = IdlePlan(url, caller.headers["Authorization"], clients)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.benchmarks.idle_clients"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode(plan) + b"\n")
            for step in ("begun", "heard"):
                if await process.stdout.readline() != b"ok\n":
                    # It has said why on its standard error.
                    raise RuntimeError(f"not all clients have {step}")
            after = rss_mb()
            go_on.set()
            ended_well = int(await process.stdout.readline())
            await process.wait()
    return IdleStreams(clients, (after - before) * 1000 / clients, ended_well)


@asynccontextmanager
async def _released(go_on: asyncio.Event) -> AsyncIterator[None]:
    """Whatever happens in the block, nobody waits afterwards."""
    try:
        yield
    finally:
        go_on.set()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.idle_streams")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    found = measure(parser.parse_args().clients)
    Console().print(
        f"{found.clients} idle streams: {found.kb_per_stream:.1f} KB each (at most {LIMIT_KB:.0f}), "
        f"{found.ended_well} ended well"
    )
    raise SystemExit(0 if found.is_within_limit else 1)


if __name__ == "__main__":
    main()
