"""What runs used, counted once: also what comes twice, late, in pieces or broken, and after it was forgotten."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.usage.retention import prune
from control_plane.usage.stream import UsageCounter
from control_plane.usage.tables import UsageRun
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.usage import DEAD_STREAM, FIELD, STREAM, CallUsage
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import Tenant
from tests.integration.control_plane.usage.runs import NOON, all_counted, call, run, shown, tell, total


async def test_a_run_with_three_calls_over_two_models_is_one_message(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    instance_id = new_id()
    calls = (call(), call(is_estimated=True), call("large", cost="0.5"))
    await tell(resources, run(tenant.org_id, *calls, instance_id=instance_id))
    await all_counted(resources, counter)

    assert await total(tenant) == {
        "messages": 1,
        "failed": 0,
        "cancelled": 0,
        "calls": 3,
        "estimated_calls": 1,
        "input_tokens": 3_000,
        "output_tokens": 300,
        "cached_tokens": 30,
    }
    assert (await total(tenant, "cost"))["cost"] == 0.502
    by_model = await shown(tenant.admin, tenant.org_id, "usage", "model,instance,day")
    assert [(m["model_name"], m["calls"], m["messages"], m["instance_id"], m["day"]) for m in by_model] == [
        ("large", 1, 1, str(instance_id), "2026-03-01"),
        ("small", 2, 1, str(instance_id), "2026-03-01"),
    ]


async def test_what_comes_twice_late_and_in_another_order_counts_once(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    runs = [run(tenant.org_id, call(), call("large"), ended_at=NOON - timedelta(hours=n)) for n in range(20)]
    await tell(resources, *runs, *reversed(runs))
    await all_counted(resources, counter)
    once = await total(tenant), await total(tenant, "cost"), await shown(tenant.admin, tenant.org_id, "cost", "day")
    await tell(resources, *reversed(runs), runs[3], runs[3])
    await all_counted(resources, counter)

    assert (once[0]["messages"], once[0]["calls"], once[1]["cost"]) == (13, 26, 0.026)
    assert once == (
        await total(tenant),
        await total(tenant, "cost"),
        await shown(tenant.admin, tenant.org_id, "cost", "day"),
    )


async def test_a_run_that_a_second_worker_tells_of_adds_only_what_was_not_told(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    told = run(tenant.org_id, call(), call("large"))
    unknown = CallUsage("", "", "", 0, 7, NOON, is_estimated=True)
    lost = run(tenant.org_id, unknown, status="failed", run_id=told.run_id, instance_id=told.instance_id)
    await tell(resources, told, lost)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["calls"], summed["output_tokens"]) == (1, 0, 2, 200)


async def test_what_each_of_two_workers_did_for_a_run_adds_up(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    first = run(tenant.org_id, call(), status="handed_over")
    second = run(tenant.org_id, call("large"), epoch=2, run_id=first.run_id, instance_id=first.instance_id)
    await tell(resources, second, first)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["calls"]) == (1, 0, 2)


async def test_of_several_that_count_at_once_nobody_counts_twice(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await tell(resources, *(run(tenant.org_id, call(), call("large")) for _ in range(600)))
    while await resources.redis.xlen(STREAM):
        await asyncio.gather(*(counter.count_some(0.01) for _ in range(4)))
    summed = await total(tenant)
    assert (summed["messages"], summed["calls"]) == (600, 1_200)


async def test_a_crash_between_counting_and_taking_out_counts_nothing_twice(
    tenant: Tenant, resources: Resources, counter: UsageCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(counter._redis, "pipeline", crash)
        await tell(resources, run(tenant.org_id, call()))
        with pytest.raises(RuntimeError, match="killed"):
            await counter.count_some(0.01)
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 1


async def test_runs_that_ended_badly_are_counted_with_what_they_spent(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    runs = [run(tenant.org_id, call(), status="failed"), run(tenant.org_id, status="cancelled")]
    await tell(resources, *runs)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["cancelled"], summed["calls"]) == (2, 1, 1, 1)


async def test_what_cannot_be_read_is_put_aside_and_holds_nothing_up(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await resources.redis.xadd(STREAM, {FIELD: b'{"event":"run.finished"'})
    await resources.redis.xadd(STREAM, {b"other": b"x"})
    await tell(resources, run(str(new_id()), call()), run(tenant.org_id, call()))
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 1
    assert await resources.redis.xlen(DEAD_STREAM) == 2


async def test_single_calls_are_forgotten_in_time_and_days_are_not(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    old, new = run(tenant.org_id, call(), call()), run(tenant.org_id, call(), ended_at=NOON + timedelta(days=80))
    await tell(resources, old, new)
    await all_counted(resources, counter)
    clock = ManualClock(NOON + timedelta(days=91))

    assert await prune(resources.database, clock, 90) == 3
    assert await prune(resources.database, clock, 90) == 0
    assert (await total(tenant))["calls"] == 2
    # What was forgotten is not counted again when it comes once more.
    counter._clock = clock
    await tell(resources, old)
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 2
    async with resources.database() as session:
        assert (await session.scalars(select(UsageRun.run_id))).all() == [new.run_id]
