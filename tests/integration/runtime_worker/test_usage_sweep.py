"""What Redis lost of what runs used is told again by whoever finds the runs, and counted once."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import cast
from uuid import UUID

import pytest
from redis.asyncio import Redis

from runtime_worker import usage_sweep
from runtime_worker.engines.base import EventSink, RunRequest
from shared.ids import new_id
from shared.snapshots import OrchestratorSnapshot
from shared.usage import FIELD, STREAM, decode_run
from tests.fakes.control_plane import FakeControlPlane
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.runtime_worker.worker import Caller, RunningWorker


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def at_once(worker: RunningWorker, control_plane: FakeControlPlane, member: Caller) -> None:
    """Runs are looked at the moment they have ended."""
    worker.worker.usage_sweep._behind = -timedelta(seconds=60)
    control_plane.retention[member.org_id] = None


async def entries_in(redis: Redis) -> list[bytes]:
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", await redis.xrange(STREAM))
    return [fields[FIELD.encode()] for _, fields in found]


async def told(redis: Redis) -> dict[UUID, int]:
    """How often each run is in the stream."""
    return Counter(decode_run(entry).run_id for entry in await entries_in(redis))


async def test_what_was_lost_is_told_again_once_and_what_is_counted_is_not(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    builder: ScriptedBuilder,
    member: Caller,
    instance: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    for _ in range(3):
        assert (await member.chat(instance.instance_id, "hi"))[0] == 200

    async def say_nothing(request: RunRequest, sink: EventSink) -> None:
        raise RuntimeError

    builder.script = say_nothing
    await member.chat(instance.instance_id, "hi")
    entries = await entries_in(redis)
    runs = list(await told(redis))
    assert len(runs) == 4
    control_plane.counted_runs = {runs[0]}
    await redis.delete(STREAM)

    assert await worker.worker.usage_sweep.sweep() == 3

    assert await told(redis) == dict.fromkeys(runs[1:], 1)
    assert set(await entries_in(redis)) <= set(entries)
    assert await worker.worker.usage_sweep.sweep() == 0, "it went through them"
    await redis.flushall()
    assert await worker.worker.usage_sweep.sweep() == 3, "what was told again is lost as well"


async def test_a_look_goes_on_where_the_one_before_was_cut_off(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    member: Caller,
    instance: OrchestratorSnapshot,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage_sweep, "BATCH", 2)
    monkeypatch.setattr(usage_sweep, "MAX_BATCHES", 1)
    for _ in range(5):
        assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    runs = list(await told(redis))
    await redis.delete(STREAM)

    sweep = worker.worker.usage_sweep
    assert await sweep.sweep() == 2
    control_plane.is_away = True
    with pytest.raises(Exception, match="the control plane answered 503"):
        await sweep.sweep()
    control_plane.is_away = False
    assert [await sweep.sweep() for _ in range(3)] == [2, 1, 0]
    assert await told(redis) == dict.fromkeys(runs, 1)


async def test_runs_that_may_still_be_going_on_are_left_alone_and_so_are_organizations_of_others(
    worker: RunningWorker,
    control_plane: FakeControlPlane,
    member: Caller,
    instance: OrchestratorSnapshot,
    redis: Redis,
) -> None:
    theirs = control_plane.put(
        instance_snapshot(llm_config_snapshot("http://model.test/v1"), org_id=new_id()), tier="demand"
    )
    neighbour = await worker.sign_in(theirs.org_id)
    control_plane.retention[neighbour.org_id] = None
    assert (await member.chat(instance.instance_id, "hi"))[0] == 200
    assert (await neighbour.chat(theirs.instance_id, "hi"))[0] == 200
    await redis.delete(STREAM)
    sweep = worker.worker.usage_sweep

    sweep._behind = timedelta(seconds=usage_sweep.BEHIND_SECONDS)
    assert await sweep.sweep() == 0
    sweep._behind, sweep._owns = -timedelta(seconds=60), lambda org_id: org_id == neighbour.org_id
    assert await sweep.sweep() == 1

    (entry,) = await entries_in(redis)
    assert decode_run(entry).org_id == neighbour.org_id
