"""Who of many instances is built first, fetched beforehand, and stays."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.preparation import Prewarming
from tests.unit.runtime_worker.pools import Setup, ticks


async def test_pinned_instances_are_built_while_there_is_room_and_not_to_push_each_other_out() -> None:
    setup = Setup(limits=PoolLimits(max_hot_pool_size=2))
    changes = setup.many(6, tier="hot")
    for change in changes:
        setup.pool.apply(change)
    for _ in range(3):
        await ticks(200)
        setup.clock.advance(100)
        setup.pool.maintain()
    assert len(setup.builder.builds) == 2
    assert (setup.pool.counts().hot, setup.pool.build_queue_length, setup.pool.hot_fill) == (2, 0, 1.0)


async def test_what_was_used_last_is_built_first() -> None:
    setup = Setup()
    changes = setup.many(6, tier="hot")
    setup.pool.remember([changes[4].instance_id, changes[1].instance_id])
    for change in changes:
        setup.pool.apply(change)
    await ticks(200)
    assert setup.builder.builds[:2] == [changes[4].config_hash, changes[1].config_hash]
    assert len(setup.builder.builds) == 6
    assert setup.pool.is_prepared


async def test_a_request_overtakes_what_nobody_has_asked_for() -> None:
    setup = Setup()
    setup.builder.may_finish.clear()
    changes = setup.many(20, tier="hot")
    for change in changes:
        setup.pool.apply(change)
    await ticks()
    setup.change(100, "asked for")
    asking = asyncio.create_task(setup.served())
    await ticks()
    assert setup.pool.build_queue_length == 18
    setup.builder.may_finish.set()
    assert await asking == "asked for"
    assert setup.builder.builds.index("asked for") <= 2
    await setup.pool.close()


async def test_slow_builds_of_one_organization_do_not_hold_up_those_of_another() -> None:
    setup = Setup()
    setup.builder.may_finish.clear()
    slow = setup.many(20, tier="demand", org_id=UUID(int=77))
    for change in slow:
        setup.pool.apply(change)
    asking = [asyncio.create_task(setup.pool.lease(change.instance_id, change.org_id)) for change in slow]
    await ticks()
    setup.change(100, "another's")
    other = asyncio.create_task(setup.served())
    await ticks()
    setup.builder.may_finish.set()
    await other
    assert setup.builder.builds.index("another's") <= 2
    for lease in await asyncio.gather(*asking):
        lease.release()
    await setup.pool.close()


@pytest.mark.parametrize(("which", "expected"), [("recent", {4, 5}), ("all", {0, 1, 2, 3, 4, 5}), ("none", set())])
async def test_snapshots_are_fetched_before_anybody_asks_as_the_settings_say(which: Any, expected: set[int]) -> None:
    setup = Setup(prewarming=Prewarming(which, 2))
    changes = setup.many(6, tier="demand")
    setup.pool.remember([changes[4].instance_id])
    for change in changes:
        setup.pool.apply(change)
    setup.pool.prewarm()
    await ticks(100)
    assert set(setup.control_plane.fetched) == {changes[number].instance_id for number in expected}
    assert (setup.pool.counts().warm, setup.builder.builds) == (len(expected), [])


async def test_too_much_memory_sends_the_least_recently_used_away_and_keeps_what_runs() -> None:
    setup = Setup(limits=PoolLimits(max_memory_bytes=100))
    changes = setup.many(3, tier="demand")
    setup.builder.sizes = {change.instance_id: 60 for change in changes}
    leases = []
    for change in changes:
        setup.pool.apply(change)
        leases.append(await setup.pool.lease(change.instance_id, change.org_id))
        setup.clock.advance(1)
    assert (setup.pool.counts().hot, setup.pool.memory_bytes, setup.pool.hot_fill) == (3, 180, 1.8)
    leases[1].release()
    assert (setup.pool.counts().hot, setup.pool.memory_bytes) == (2, 120)
    leases[0].release()
    assert (setup.pool.counts().hot, setup.pool.memory_bytes) == (1, 60)
    leases[2].release()
    assert setup.pool.counts().hot == 1
