"""A worker's pool on the real feed: a change rebuilds what it concerns, in every organization, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import UUID

import httpx
import pytest

from control_plane.wiring import Resources
from runtime_worker.pool.central_points import CentralPoints
from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.pool.reconciler import Reconciler
from shared.clock import SystemClock
from shared.snapshots import ChangePage, OrchestratorSnapshot
from shared.workers import InstanceState
from tests.fakes.orchestrators import ScriptedBuilder
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_worker_feed import changes_since, snapshot_of
from tests.integration.control_plane.workshop import WEATHER, Workshop, add_plugin


class Silent:
    def tell(self, state: InstanceState) -> None: ...

    def forget(self, instance_id: UUID) -> None: ...


class FollowingPool:
    """Keeps everything hot that was ever made, and says what was built since it was asked last."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.builder = ScriptedBuilder()
        self.pool = OrchestratorPool(
            self.builder, self._snapshot, SystemClock(), Silent(), limits=PoolLimits(), owns=lambda _: True
        )
        self.reconciler = Reconciler(self.pool, CentralPoints(), self._changes, Heap(is_idle=lambda: False))

    async def _snapshot(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        return await snapshot_of(self.http, str(instance_id))

    async def _changes(self, since: int, limit: int) -> ChangePage:
        return await changes_since(self.http, since, limit)

    async def rebuilt(self) -> set[str]:
        before = set(self.builder.open)
        await self.reconciler.catch_up()
        while any(entry.building for entry in self.pool._index.all()) or not self.pool.is_prepared:
            await asyncio.sleep(0.005)
        return {str(built.snapshot.instance_id) for built in self.builder.open if built not in before}


@pytest.fixture
async def following(http: httpx.AsyncClient) -> AsyncIterator[FollowingPool]:
    pool = FollowingPool(http)
    yield pool
    await pool.pool.close()


async def test_a_change_is_built_by_workers_for_exactly_the_instances_it_affects(
    world: World, resources: Resources, root: Caller, following: FollowingPool
) -> None:
    shop = await Workshop.open(world, resources)
    weather_id = await add_plugin(resources, WEATHER)
    other = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    second = await shop.llm_config()
    plain = await shop.orchestrator(tier="hot")
    on_second = await shop.orchestrator(tier="hot", config={"default_llm_config_id": second})
    with_weather = await shop.orchestrator(tier="hot", active_plugin_ids=[shop.calculator_id, WEATHER])
    own_rounds = await shop.orchestrator(
        tier="hot",
        config={"default_llm_config_id": shop.llm_config_id, "mode_config": {"max_tool_rounds": 3}},
    )
    foreign = await other.orchestrator(tier="hot")
    foreign_weather = await other.orchestrator(tier="hot", active_plugin_ids=[WEATHER])
    ours = {made["instance_id"] for made in (plain, on_second, with_weather, own_rounds)}
    theirs = {made["instance_id"] for made in (foreign, foreign_weather)}
    assert await following.rebuilt() == ours | theirs
    assert await following.rebuilt() == set()

    await accepted(shop.admin.patch(f"{shop.tenant.path}/llm-configs/{second}", {"model_name": "another"}))
    assert await following.rebuilt() == {on_second["instance_id"]}

    await accepted(root.patch(f"/api/admin/plugins/{weather_id}", {"trusted": True}))
    assert await following.rebuilt() == {with_weather["instance_id"], foreign_weather["instance_id"]}
    await accepted(root.patch(f"/api/admin/plugins/{weather_id}", {"tag": "sky", "trusted": True}))
    assert await following.rebuilt() == set(), "what is only shown of a plugin concerns no instance"

    await accepted(shop.admin.post(f"{shop.tenant.path}/settings", {"settings": {"max_message_chars": 77}}))
    assert await following.rebuilt() == ours

    await accepted(root.patch("/api/admin/settings/max_tool_rounds", {"value": 9}))
    assert await following.rebuilt() == (ours | theirs) - {own_rounds["instance_id"]}

    await accepted(shop.admin.patch(shop.at(plain), {"whoami": "Somebody else"}))
    assert await following.rebuilt() == {plain["instance_id"]}


async def accepted(call: Awaitable[httpx.Response]) -> None:
    answer = await call
    assert answer.status_code in (200, 201), answer.text
