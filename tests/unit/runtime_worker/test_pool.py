"""One instance in the pool: what serves while it changes, is built, fails, or nobody can be asked."""

import asyncio
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from shared.errors import NotFound, OrchestratorBuildFailed, StoreUnavailable
from shared.frameworks import Provider
from shared.pricing import ModelPrice
from tests.unit.runtime_worker.pools import Setup, ticks

PRICE = ModelPrice(Provider.OPENAI, "m", Decimal(1), Decimal(2))


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


async def test_a_pool_that_closes_ends_the_build_of_what_was_deleted_meanwhile(setup: Setup) -> None:
    setup.change(1, "A")
    setup.builder.may_finish.clear()
    asking = asyncio.create_task(setup.served())
    await ticks()
    gone = msgspec.structs.replace(setup.snapshot, revision=2)
    setup.pool.apply(msgspec.structs.replace(setup.control_plane.put(gone), is_deleted=True))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    await setup.pool.close()
    setup.builder.may_finish.set()
    await ticks()
    assert setup.builder.builds == []
