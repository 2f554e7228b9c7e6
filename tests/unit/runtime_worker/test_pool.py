import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.pool.preparation import NOTHING, Prewarming
from shared.errors import NotFound, OrchestratorBuildFailed, StoreUnavailable
from shared.frameworks import Provider
from shared.pricing import ModelPrice
from shared.snapshots import InstanceChange, OrchestratorSnapshot, Tier
from shared.workers import InstanceState
from tests.fakes.clock import ManualClock
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder

PRICE = ModelPrice(Provider.OPENAI, "m", Decimal(1), Decimal(2))
LIMITS = PoolLimits()


class ControlPlane:
    """The instances as they are, one revision after the other."""

    def __init__(self) -> None:
        self.snapshots: dict[UUID, OrchestratorSnapshot] = {}
        self.fetched: list[UUID] = []
        self.is_away = False

    async def fetch(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        self.fetched.append(instance_id)
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("the control plane does not answer")
        if instance_id not in self.snapshots:
            raise NotFound
        return self.snapshots[instance_id]

    def put(self, snapshot: OrchestratorSnapshot) -> InstanceChange:
        self.snapshots[snapshot.instance_id] = snapshot
        return InstanceChange(
            snapshot.instance_id,
            snapshot.org_id,
            snapshot.revision,
            snapshot.config_hash,
            snapshot.status,
            snapshot.tier,
            snapshot.is_unloaded,
        )


class Reports:
    def __init__(self) -> None:
        self.told: list[InstanceState] = []

    def tell(self, state: InstanceState) -> None:
        self.told.append(state)

    def forget(self, instance_id: UUID) -> None:
        self.told.clear()


class Setup:
    def __init__(self, limits: PoolLimits = LIMITS, prewarming: Prewarming = NOTHING) -> None:
        self.builder = ScriptedBuilder()
        self.control_plane = ControlPlane()
        self.clock = ManualClock()
        self.reports = Reports()
        self.snapshot = msgspec.structs.replace(
            instance_snapshot(llm_config_snapshot("http://model.test/v1")), tier="demand", config_hash="A"
        )
        self.pool = OrchestratorPool(
            self.builder,
            self.control_plane.fetch,
            self.clock,
            self.reports,
            limits=limits,
            owns=lambda _: True,
            prewarming=prewarming,
        )

    def change(self, revision: int, config_hash: str) -> None:
        self.snapshot = msgspec.structs.replace(self.snapshot, revision=revision, config_hash=config_hash)
        self.pool.apply(self.control_plane.put(self.snapshot))

    def many(self, count: int, *, tier: Tier, org_id: UUID | None = None) -> list[InstanceChange]:
        """Other instances, each of an organization of its own unless one is given."""
        return [
            self.control_plane.put(
                msgspec.structs.replace(
                    self.snapshot,
                    instance_id=UUID(int=number),
                    org_id=org_id or UUID(int=1000 + number),
                    revision=number,
                    config_hash=f"{number}",
                    tier=tier,
                )
            )
            for number in range(1, count + 1)
        ]

    async def served(self) -> str:
        lease = await self.pool.lease(self.snapshot.instance_id, self.snapshot.org_id)
        lease.release()
        return lease.snapshot.config_hash

    async def until(self, *hashes: str) -> None:
        async with asyncio.timeout(5):
            while self.builder.builds != list(hashes):
                await asyncio.sleep(0)
            while any(entry.building for entry in self.pool._index.all()):
                await asyncio.sleep(0)


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def test_many_first_requests_make_one_build(setup: Setup) -> None:
    setup.change(1, "A")
    assert await asyncio.gather(*[setup.served() for _ in range(50)]) == ["A"] * 50
    assert setup.builder.builds == ["A"]
    assert len(setup.control_plane.fetched) == 1


async def test_the_old_build_serves_until_the_new_one_is_done(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    setup.builder.may_finish.clear()
    setup.change(2, "B")
    assert await setup.served() == "A"
    setup.builder.may_finish.set()
    await setup.until("A", "B")
    assert await setup.served() == "B"


async def test_a_new_price_reaches_the_next_run_without_another_build(setup: Setup) -> None:
    setup.change(1, "A")
    before = await setup.pool.lease(setup.snapshot.instance_id)
    setup.snapshot = msgspec.structs.replace(setup.snapshot, prices=(PRICE,))
    setup.control_plane.is_away = True
    setup.change(2, "A")
    await asyncio.gather(*[entry.refreshing for entry in setup.pool._index.all() if entry.refreshing])
    setup.control_plane.is_away = False
    setup.pool.maintain()
    await asyncio.gather(*[entry.refreshing for entry in setup.pool._index.all() if entry.refreshing])
    after = await setup.pool.lease(setup.snapshot.instance_id)
    assert (before.snapshot.prices, after.snapshot.prices) == ((), (PRICE,))
    assert setup.builder.builds == ["A"]


async def test_a_replaced_build_is_closed_only_when_its_last_run_ends(setup: Setup) -> None:
    setup.change(1, "A")
    lease = await setup.pool.lease(setup.snapshot.instance_id)
    setup.change(2, "B")
    await setup.until("A", "B")
    assert [o.snapshot.config_hash for o in setup.builder.open] == ["A", "B"]
    lease.release()
    await setup.pool._builds.closed()
    assert [o.snapshot.config_hash for o in setup.builder.open] == ["B"]


async def test_a_failed_reload_keeps_the_old_one_serving_and_is_reported(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    setup.builder.failing.add(setup.snapshot.instance_id)
    setup.change(2, "B")
    async with asyncio.timeout(5):
        while setup.reports.told[-1].state != "failed":
            await asyncio.sleep(0)
    assert setup.reports.told[-1].reason == "the plugin cannot be imported"
    assert await setup.served() == "A"


async def test_a_build_that_waits_for_something_says_for_what_until_it_is_over(setup: Setup) -> None:
    setup.builder.may_finish.clear()
    setup.change(1, "A")
    loading = asyncio.create_task(setup.served())
    async with asyncio.timeout(5):
        while not setup.reports.told:
            await asyncio.sleep(0)

    setup.pool.explain_build(setup.snapshot.instance_id, "installing the dependencies of com.acme.calc@1.0.0")
    setup.pool.explain_build(UUID(int=1), "nobody knows it")
    setup.pool.report_all()

    told = [(state.state, state.reason) for state in setup.reports.told]
    assert told[1:] == [("building", "installing the dependencies of com.acme.calc@1.0.0")] * 2
    setup.builder.may_finish.set()
    await loading
    setup.pool.report_all()
    assert (setup.reports.told[-1].state, setup.reports.told[-1].reason) == ("ready", None)


async def test_a_failed_build_answers_at_once_until_its_wait_is_over(setup: Setup) -> None:
    setup.builder.failing.add(setup.snapshot.instance_id)
    setup.change(1, "A")
    for _ in range(3):
        with pytest.raises(OrchestratorBuildFailed, match="cannot be imported"):
            await setup.served()
    assert len(setup.control_plane.fetched) == 1
    setup.builder.failing.clear()
    setup.clock.advance(1)
    assert await setup.served() == "A"


async def test_a_changed_input_ends_the_wait_after_a_failure(setup: Setup) -> None:
    setup.builder.failing.add(setup.snapshot.instance_id)
    setup.change(1, "A")
    with pytest.raises(OrchestratorBuildFailed):
        await setup.served()
    setup.builder.failing.clear()
    setup.change(2, "B")
    assert await setup.served() == "B"


async def test_an_equal_configuration_is_not_built_again(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    setup.change(2, "A")
    assert setup.reports.told[-1].state == "ready"
    assert setup.reports.told[-1].revision == 2
    assert await setup.served() == "A"
    assert setup.builder.builds == ["A"]


async def test_a_change_that_was_taken_back_while_it_was_built_is_never_served(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    setup.builder.may_finish.clear()
    setup.change(2, "B")
    for _ in range(20):
        await asyncio.sleep(0)
    setup.change(3, "A")
    setup.builder.may_finish.set()
    await setup.until("A", "B")
    assert await setup.served() == "A"
    await setup.pool._builds.closed()
    assert [o.snapshot.config_hash for o in setup.builder.open] == ["A"]


async def test_a_change_that_was_taken_back_before_it_was_fetched_is_not_built(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    changed = setup.control_plane.put(msgspec.structs.replace(setup.snapshot, revision=2, config_hash="B"))
    setup.control_plane.put(msgspec.structs.replace(setup.snapshot, revision=3, config_hash="A"))
    setup.pool.apply(changed)
    await setup.until("A")
    assert setup.builder.builds == ["A"]
    assert await setup.served() == "A"
    assert setup.reports.told[-1].served_revision == 3


async def test_without_the_control_plane_what_is_built_serves_and_what_is_not_says_so(setup: Setup) -> None:
    setup.change(1, "A")
    await setup.served()
    setup.control_plane.is_away = True
    setup.change(2, "B")
    assert await setup.served() == "A"
    other = msgspec.structs.replace(setup.snapshot, instance_id=UUID(int=9))
    with pytest.raises(StoreUnavailable):
        await setup.pool.lease(other.instance_id, other.org_id)


async def test_another_organizations_instance_does_not_exist(setup: Setup) -> None:
    setup.change(1, "A")
    with pytest.raises(NotFound):
        await setup.pool.lease(setup.snapshot.instance_id, UUID(int=7))
    assert setup.builder.builds == []


async def test_an_instance_younger_than_the_feed_is_found(setup: Setup) -> None:
    setup.control_plane.put(setup.snapshot)
    assert await setup.served() == "A"


async def test_a_hot_tier_instance_is_built_without_a_request(setup: Setup) -> None:
    setup.snapshot = msgspec.structs.replace(setup.snapshot, tier="hot")
    setup.change(1, "A")
    await setup.until("A")
    assert setup.reports.told[-1].state == "ready"


async def test_a_failure_of_what_is_outdated_does_not_delay_what_is_newest(setup: Setup) -> None:
    setup.builder.failing.add(setup.snapshot.instance_id)
    setup.builder.may_finish.clear()
    setup.change(1, "A")
    asking = asyncio.create_task(setup.served())
    await ticks()
    setup.change(2, "B")
    setup.builder.may_finish.set()
    for _ in range(2):
        await asyncio.sleep(0)
    setup.builder.failing.clear()
    assert await asking == "B"
    assert all(state.state != "failed" for state in setup.reports.told)


async def test_what_failed_without_the_control_plane_is_tried_as_soon_as_it_is_back(setup: Setup) -> None:
    setup.change(1, "A")
    setup.control_plane.is_away = True
    with pytest.raises(StoreUnavailable):
        await setup.served()
    setup.control_plane.is_away = False
    with pytest.raises(StoreUnavailable):
        await setup.served()
    setup.pool.source_is_back()
    assert await setup.served() == "A"


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


async def ticks(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
