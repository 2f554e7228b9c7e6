"""Load, reload, unload, while people talk; and leaving without hurting anybody."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from deploy.local.ports import free_port
from runtime_worker.engines.base import EventSink, RunRequest
from shared.clock import SystemClock
from shared.ids import new_id
from shared.settings import PoolSettings, ServingSettings, WorkerSettings
from shared.snapshots import OrchestratorSnapshot
from shared.workers import WorkerRecord, WorkerRegistry
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.orchestrators import ScriptedBuilder, say
from tests.integration.runtime_worker.worker import Caller, RunningWorker, eventually, running_worker


@pytest.fixture
def publish(worker: RunningWorker, control_plane: FakeControlPlane) -> Callable[..., Any]:
    """Change an instance and wait until the worker has heard of it."""

    async def change(snapshot: OrchestratorSnapshot, **changes: Any) -> None:
        stored = control_plane.put(snapshot, **changes)
        worker.worker.reconciler.hint(stored.revision)
        await eventually(lambda: worker.worker.pool._index.known_revision(stored.instance_id) >= stored.revision)

    return change


async def test_what_serves_here_follows_its_event_without_the_change_feed(
    worker: RunningWorker, control_plane: FakeControlPlane, member: Caller, instance: OrchestratorSnapshot
) -> None:
    reconciler, pool = worker.worker.reconciler, worker.worker.pool
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    await reconciler.look()
    control_plane.is_feed_away = True
    for changes in ({"name": "Renamed"}, {"is_unloaded": True}):
        stored = control_plane.put(instance, **changes)
        reconciler.hint(stored.revision, stored.instance_id)
        await eventually(lambda revision=stored.revision: reconciler.observed_revision == revision)
        assert pool.has_heard_of(stored.instance_id, stored.revision)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 503

    # Whoever missed what came in between must not take the last for all.
    other = control_plane.put(instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=instance.org_id))
    stored = control_plane.put(instance)
    reconciler.hint(stored.revision, stored.instance_id)
    await eventually(lambda: reconciler.is_cut_off)
    assert reconciler.observed_revision < other.revision
    control_plane.is_feed_away = False
    assert await reconciler.look()
    assert pool.has_heard_of(other.instance_id, other.revision)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"is_unloaded": True}, 503, "OR-0001"),
        ({"status": "suspended"}, 503, "OR-0001"),
        ({"status": "inactive"}, 410, "OR-0003"),
    ],
)
async def test_an_instance_that_may_not_serve_says_why_and_serves_again_afterwards(
    member: Caller,
    instance: OrchestratorSnapshot,
    publish: Callable[..., Any],
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    await publish(instance, **changes)
    answer = await member.chat(instance.instance_id, "hi")
    assert (answer[0], answer[1]["code"]) == (status, code)
    await publish(instance)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200


async def test_a_deleted_instance_is_not_found(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    await member.chat(instance.instance_id, "hi")
    control_plane.delete(instance.instance_id)
    worker.worker.reconciler.poke()
    await eventually(lambda: worker.worker.pool._index.find(instance.instance_id) is None)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 404


async def test_a_failed_build_says_why_and_is_reported_to_the_registry(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    builder.failing.add(instance.instance_id)
    status, problem = await member.chat(instance.instance_id, "hi")
    assert (status, problem["code"], problem["detail"]) == (503, "OR-0002", "the plugin cannot be imported")
    registry = WorkerRegistry(worker.worker.redis, SystemClock())

    async def reported() -> bool:
        states = await registry.states_of(instance.instance_id)
        return [(s.state, s.reason) for s in states.values()] == [("failed", "the plugin cannot be imported")]

    await eventually(reported)


async def test_a_hot_instance_is_ready_without_being_asked(
    worker: RunningWorker, instance: OrchestratorSnapshot, publish: Callable[..., Any]
) -> None:
    await publish(instance, tier="hot")
    registry = WorkerRegistry(worker.worker.redis, SystemClock())

    async def is_ready() -> bool:
        states = (await registry.states_of(instance.instance_id)).values()
        return [(s.state, s.config_hash) for s in states] == [("ready", instance.config_hash)]

    await eventually(is_ready)


async def test_a_reload_under_twenty_streams_breaks_none_and_new_ones_carry_the_new_configuration(
    member: Caller,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
    publish: Callable[..., Any],
) -> None:
    go_on = asyncio.Event()

    async def long(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "begin ")
        await go_on.wait()
        await say(sink, "end")

    builder.script = long
    streams = [asyncio.create_task(member.stream(instance.instance_id, "go")) for _ in range(20)]
    await eventually(lambda: len(builder.requests) == 20)
    await publish(instance, config_hash="new")
    await eventually(lambda: builder.builds == [instance.config_hash, "new"])
    late = asyncio.create_task(member.stream(instance.instance_id, "go"))
    await eventually(lambda: len(builder.requests) == 21)
    go_on.set()
    for events in await asyncio.gather(*streams):
        assert events[0].data["config_hash"] == instance.config_hash
        assert "".join(e.data["content"] for e in events if e.name == "message") == "begin end"
        assert events[-1].data["status"] == "completed"
    assert (await late)[0].data["config_hash"] == "new"
    await eventually(lambda: [o.snapshot.config_hash for o in builder.open] == ["new"])


async def test_without_the_control_plane_the_last_good_instances_serve(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, control_plane: FakeControlPlane
) -> None:
    await member.chat(instance.instance_id, "hi")
    control_plane.is_away = True
    worker.worker.reconciler.poke()
    await eventually(lambda: worker.worker.reconciler.is_cut_off)
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    status, body = await worker.ready()
    assert (status, body["dependencies"]["control_plane"]) == (200, "down")
    control_plane.is_away = False
    worker.worker.reconciler.poke()
    await eventually(lambda: not worker.worker.reconciler.is_cut_off)


async def test_a_draining_worker_fails_readiness_refuses_new_runs_and_finishes_its_streams(
    worker: RunningWorker, member: Caller, instance: OrchestratorSnapshot, builder: ScriptedBuilder
) -> None:
    go_on = asyncio.Event()

    async def long(request: RunRequest, sink: EventSink) -> None:
        await go_on.wait()
        await say(sink, "end")

    builder.script = long
    stream = asyncio.create_task(member.stream(instance.instance_id, "go"))
    await eventually(lambda: len(builder.requests) == 1)
    draining = asyncio.create_task(worker.worker.drain())
    await eventually(lambda: worker.worker.table.is_draining)
    status, body = await worker.ready()
    assert (status, body["status"], body["active_runs"]) == (503, "draining", 1)
    status, problem = await member.chat(instance.instance_id, "too late")
    assert (status, problem["code"]) == (503, "SY-0002")
    (record,) = await WorkerRegistry(worker.worker.redis, SystemClock()).live()
    assert record.draining
    assert record.active_runs == 1
    go_on.set()
    assert (await stream)[-1].data["status"] == "completed"
    await draining


async def test_a_stream_that_outlasts_the_grace_of_the_only_worker_ends_there_with_what_was_shown(
    settings: WorkerSettings,
    control_plane: FakeControlPlane,
    instance: OrchestratorSnapshot,
    builder: ScriptedBuilder,
) -> None:
    async def endless(request: RunRequest, sink: EventSink) -> None:
        await say(sink, "never ")
        await asyncio.Event().wait()

    builder.script = endless
    impatient = msgspec.structs.replace(settings, serving=ServingSettings(drain_seconds=0))
    async with running_worker(impatient, control_plane, builder) as worker:
        member = await worker.sign_in(instance.org_id)
        stream = asyncio.create_task(member.stream(instance.instance_id, "go"))
        await eventually(lambda: len(builder.requests) == 1)
        await worker.worker.drain()
        last = (await stream)[-1]
        assert (last.name, last.data["code"], last.data["retryable"]) == ("error", "OR-0007", True)
    assert builder.open == []


async def test_a_worker_that_left_is_no_longer_in_the_registry(
    settings: WorkerSettings, control_plane: FakeControlPlane, builder: ScriptedBuilder, redis: Any
) -> None:
    registry = WorkerRegistry(redis, SystemClock())
    async with running_worker(settings, control_plane, builder) as worker:
        (record,) = await registry.live()
        assert (record.worker_id, record.url) == (worker.worker.worker_id, worker.url)
        assert record.rss_mb > 10
    assert await registry.live() == []


async def test_a_worker_is_ready_while_what_it_keeps_hot_is_still_being_built(
    settings: WorkerSettings, control_plane: FakeControlPlane, builder: ScriptedBuilder, instance: OrchestratorSnapshot
) -> None:
    """And whoever asks for something meanwhile does not wait for that."""
    for number in range(40):
        control_plane.put(instance, instance_id=UUID(int=number), org_id=new_id(), tier="hot")
    builder.held = {UUID(int=number) for number in range(40)}
    async with running_worker(settings, control_plane, builder) as running:
        assert (await running.ready())[0] == 200
        assert running.worker.pool.build_queue_length >= 30
        member = await running.sign_in(instance.org_id)
        assert (await member.chat(instance.instance_id, "hi"))[0] == 200
        builder.held.clear()
        builder.may_finish.set()
        await eventually(lambda: running.worker.pool.is_prepared)
        assert running.worker.pool.counts().hot == 41


async def test_a_worker_says_what_it_holds_and_what_was_used_is_prepared_by_the_next(
    settings: WorkerSettings, control_plane: FakeControlPlane, model_server: ModelServer, instance: OrchestratorSnapshot
) -> None:
    used = control_plane.put(
        instance_snapshot(llm_config_snapshot(model_server.base_url), org_id=instance.org_id), tier="demand"
    )
    async with running_worker(settings, control_plane, None) as running:
        model_server.tools(("conversational", {}))
        model_server.answer("Hi")
        member = await running.sign_in(used.org_id)
        assert (await member.chat(used.instance_id, "hello"))[0] == 200
        registry = WorkerRegistry(running.worker.redis, SystemClock())

        async def told() -> WorkerRecord | None:
            (record,) = await registry.live()
            return record if record.hot else None

        record = await eventually(told)
        assert (record.hot, record.shared_models, record.shared_bundles, record.shared_templates) == (1, 1, 0, 1)
        assert 0 < record.pool_mb < 1 < record.rss_mb
        assert (record.pool_limit_mb, record.hosts_mb, record.build_queue) == (PoolSettings().memory_mb, 0, 0)
        await eventually(lambda: in_recent(registry, used.instance_id))
    few = msgspec.structs.replace(settings, port=free_port(), pool=PoolSettings(prewarm_count=1))
    few = msgspec.structs.replace(few, public_url=f"http://127.0.0.1:{few.port}")
    async with running_worker(few, control_plane, None) as running:
        await eventually(lambda: running.worker.pool.is_prepared)
        counts = running.worker.pool.counts()
        assert (counts.hot, counts.warm, counts.cold) == (0, 1, 1)
        warm = list(running.worker.pool._index.warm)
        assert warm == [used.instance_id]


async def in_recent(registry: WorkerRegistry, instance_id: UUID) -> bool:
    return (await registry.recently_used())[:1] == [instance_id]
