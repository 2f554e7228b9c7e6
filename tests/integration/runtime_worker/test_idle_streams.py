"""Many clients that wait: each hears that its connection lives, and each gets its end."""

import asyncio

from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.stream.run_stream import MAX_WAITING_BYTES
from shared.snapshots import OrchestratorSnapshot
from tests.benchmarks.idle_clients import IdleClients, IdlePlan
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker

CLIENTS = 200


async def test_two_hundred_silent_streams_all_get_heartbeats_and_their_end(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def waiting(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()
        await say(sink, "done")

    builder.script = waiting
    url = f"{member.url}/orchestrators/{instance.instance_id}/completion/stream"
    clients = IdleClients(IdlePlan(url, member.headers["Authorization"], CLIENTS))
    running = asyncio.create_task(clients.run())
    async with asyncio.timeout(60):
        await clients.begun()
        await clients.heard()
        runs = worker.worker.table.all()
        assert len(runs) == CLIENTS
        assert sum(run.stream.waiting_bytes for run in runs) < MAX_WAITING_BYTES
        go_on.set()
        await running
    assert clients.ended_well == CLIENTS
