"""Several workers over the same stores: what one starts, any other can find and stop."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from faststream.nats import NatsBroker

from runtime_worker.engines.base import EventSink, RunRequest
from runtime_worker.turn.claims import CLAIMS
from shared.clock import SystemClock
from shared.events import OrchestratorReload, encode_event, routing_key
from shared.events.topology import STREAM
from shared.ids import new_id
from shared.settings import PoolSettings, WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from shared.workers import WorkerRegistry
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import eventually, running_worker, worker_settings


def another(settings: WorkerSettings, control_plane: FakeControlPlane, home: Path) -> WorkerSettings:
    return worker_settings(
        control_plane=control_plane,
        redis_url=settings.redis_url,
        mongo_url=settings.mongo_url,
        broker_url=settings.broker_url,
        home=home,
    )


async def endless(request: RunRequest, sink: EventSink) -> None:
    await say(sink, "begin")
    await asyncio.Event().wait()


async def test_a_run_is_found_blocked_on_and_cancelled_from_another_worker(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, tmp_path: Path
) -> None:
    builder = ScriptedBuilder()
    others = another(settings, control_plane, tmp_path)
    async with (
        running_worker(settings, control_plane, builder) as one,
        running_worker(others, control_plane, builder) as two,
    ):
        here = await one.sign_in(instance.org_id)
        there = await two.sign_in(instance.org_id, user_id=here.user_id)
        _, first = await here.chat(instance.instance_id, "hi")
        builder.script = endless
        async with here.streaming(instance.instance_id, "go", conversation_id=first["conversation_id"]) as stream:
            opening = await stream.next()
            assert opening is not None
            run = opening.data["run_id"]
            assert (await there.call("GET", f"/runs/{run}"))[1]["status"] == "running"
            status, problem = await there.chat(instance.instance_id, "me too", conversation_id=first["conversation_id"])
            assert (status, problem["code"]) == (409, "OR-0004")
            assert (await there.call("POST", f"/runs/{run}/cancel"))[0] == 202
            assert [e async for e in stream][-1].data["status"] == "cancelled"
        assert (await there.call("GET", f"/runs/{run}"))[1]["status"] == "cancelled"


async def nothing(*_: Any) -> None:
    """What a worker does that is not there any more."""


async def test_the_run_of_a_lost_worker_is_found_out(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, tmp_path: Path
) -> None:
    builder = ScriptedBuilder(endless)
    others = another(settings, control_plane, tmp_path)
    async with (
        running_worker(settings, control_plane, builder) as one,
        running_worker(others, control_plane, builder) as two,
    ):
        here = await one.sign_in(instance.org_id)
        there = await two.sign_in(instance.org_id, user_id=here.user_id)
        async with here.streaming(instance.instance_id, "go") as stream:
            opening = await stream.next()
            assert opening is not None
            run = opening.data["run_id"]
            # As if its worker had been killed, and Redis had lost what it knew.
            one.worker._turning.locks._renew_all = nothing  # type: ignore[assignment,method-assign]
            await one.worker.redis.delete(CLAIMS, f"run:{run}")
            _, found = await there.call("GET", f"/runs/{run}")
            assert (found["status"], found["error"]["code"]) == ("failed", "OR-0007")
            assert (await here.call("POST", f"/runs/{run}/cancel"))[0] == 202


async def test_an_event_reaches_every_worker_at_once(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    tmp_path: Path,
    nats_url: str,
) -> None:
    builder = ScriptedBuilder()
    others = another(settings, control_plane, tmp_path)
    async with (
        running_worker(settings, control_plane, builder) as one,
        running_worker(others, control_plane, builder) as two,
    ):
        workers = [one.worker, two.worker]
        for worker in workers:
            await eventually(worker.events.is_connected)
        # From here on no worker asks by itself, so that only an event can tell it.
        stored = control_plane.put(instance, config_hash="new")
        event = OrchestratorReload(
            event_id=new_id(),
            revision=stored.revision,
            occurred_at=SystemClock().now(),
            org_id=stored.org_id,
            instance_id=stored.instance_id,
            operation_id=new_id(),
        )
        async with NatsBroker(nats_url, logger=None) as broker:
            await broker.publish(encode_event(event), routing_key(event), stream=STREAM)
        for worker in workers:
            known = worker.pool._index.known_revision
            await eventually(lambda known=known: known(stored.instance_id) == stored.revision, seconds=2)


async def test_hot_instances_are_shared_out_and_taken_over_when_a_worker_leaves(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, tmp_path: Path
) -> None:
    mine, theirs = ScriptedBuilder(), ScriptedBuilder()
    hot = [msgspec.structs.replace(instance, instance_id=new_id()) for _ in range(12)]
    ids = [control_plane.put(snapshot, tier="hot").instance_id for snapshot in hot]
    others = another(settings, control_plane, tmp_path)
    async with running_worker(settings, control_plane, mine) as one:
        await eventually(lambda: len(mine.builds) == 12)
        async with running_worker(others, control_plane, theirs) as two:
            owned = [i for i in ids if two.worker.topology.owns(i)]
            await eventually(lambda: len(theirs.builds) == len(owned))
            assert 0 < len(owned) < 12
            owners = [one.worker.topology.owns, two.worker.topology.owns]
            await eventually(lambda: all(sum(owns(i) for owns in owners) == 1 for i in ids))
        await eventually(lambda: all(one.worker.topology.owns(i) for i in ids))


async def test_a_new_worker_builds_its_part_before_it_takes_requests(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, tmp_path: Path
) -> None:
    mine, theirs = ScriptedBuilder(), ScriptedBuilder()
    theirs.may_finish.clear()
    hot = [msgspec.structs.replace(instance, instance_id=new_id()) for _ in range(12)]
    ids = [control_plane.put(snapshot, tier="hot").instance_id for snapshot in hot]
    async with running_worker(settings, control_plane, mine) as one:
        assert (await one.ready())[0] == 200
        async with running_worker(another(settings, control_plane, tmp_path), control_plane, theirs) as two:
            status, body = await two.ready()
            assert (status, body["status"]) == (503, "joining")
            registry = WorkerRegistry(one.worker.redis, SystemClock())
            assert {w.worker_id: w.joining for w in await registry.live()} == {
                one.worker.worker_id: False,
                two.worker.worker_id: True,
            }
            assert all(one.worker.topology.owns(i) for i in ids)
            theirs.may_finish.set()
            await eventually(lambda: two.worker.topology.is_serving)
            assert len(theirs.builds) == sum(two.worker.topology.owns(i) for i in ids) > 0
            assert (await two.ready())[0] == 200


async def test_with_replication_two_workers_keep_each_hot_instance(
    settings: WorkerSettings, control_plane: FakeControlPlane, instance: OrchestratorSnapshot, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, pool=PoolSettings(hot_replication=2))
    control_plane.put(instance, tier="hot")
    mine, theirs = ScriptedBuilder(), ScriptedBuilder()
    others = msgspec.structs.replace(another(settings, control_plane, tmp_path), pool=settings.pool)
    async with (
        running_worker(settings, control_plane, mine) as one,
        running_worker(others, control_plane, theirs) as two,
    ):
        await eventually(lambda: len(mine.builds) == len(theirs.builds) == 1)
        await eventually(lambda: two.worker.topology.is_serving)
        leads = [w.worker.topology.leads for w in (one, two)]
        await eventually(lambda: sum(lead(instance.instance_id) for lead in leads) == 1)
