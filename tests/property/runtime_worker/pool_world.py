"""What happens around a pool: changes in any order, time, builds that fail or wait, a control plane that is away."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.pool import OrchestratorPool
from shared.config_hash import config_hash
from shared.errors import NotFound, StoreUnavailable
from shared.snapshots import InstanceChange, OrchestratorSnapshot
from shared.workers import InstanceState
from tests.fakes.clock import ManualClock
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder, ScriptedBuilt
from tests.fakes.plugin_bundle import FunctionBundle

T = TypeVar("T")
LIMITS = PoolLimits(max_hot_pool_size=2, demand_ttl_seconds=100, warm_ttl_seconds=500, max_memory_bytes=100)
INSTANCES = 4
TEMPLATE = instance_snapshot(llm_config_snapshot("http://model.test/v1"))


class Told:
    """The reports as the registry would have them."""

    def __init__(self) -> None:
        self.states: dict[UUID, InstanceState] = {}

    def tell(self, state: InstanceState) -> None:
        self.states[state.instance_id] = state

    def forget(self, instance_id: UUID) -> None:
        self.states.pop(instance_id, None)


class WatchedBuilder(ScriptedBuilder):
    """Notes what need not have been built."""

    pool: OrchestratorPool

    async def build(self, snapshot: OrchestratorSnapshot) -> ScriptedBuilt:
        entry = self.pool._index.find(snapshot.instance_id)
        if entry is not None and entry.current is not None:
            if entry.current.snapshot.config_hash == snapshot.config_hash:
                self.violations.append("built what was serving")
            if entry.current.revision >= snapshot.revision:
                self.violations.append("built what is older than what serves")
        return await super().build(snapshot)


class Truth(msgspec.Struct):
    """One instance as the control plane has it."""

    snapshot: OrchestratorSnapshot
    is_deleted: bool = False


class PoolWorld(RuleBasedStateMachine):
    """All but the requests, and without a promise."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.builder = WatchedBuilder()
        self.plugin = FunctionBundle("com.example.shared")
        self.told = Told()
        self.truth: dict[UUID, Truth] = {}
        self.revision = 0
        self.is_away = False
        self.feed: list[InstanceChange] = []
        self.ever_failing: set[UUID] = set()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def fetch(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        found = self.truth.get(instance_id)
        if found is None or found.is_deleted:
            raise NotFound
        return found.snapshot

    @initialize()
    def start(self) -> None:
        async def make() -> OrchestratorPool:
            return OrchestratorPool(self.builder, self.fetch, self.clock, self.told, limits=LIMITS, owns=lambda _: True)

        self.pool = self.builder.pool = self.do(make())
        # Two have a plugin in common.
        self.builder.bundles = {UUID(int=number): (self.plugin,) for number in (1, 2)}

    # --- the control plane ---

    @rule(number=st.integers(0, INSTANCES - 1), tier=st.sampled_from(["hot", "demand"]), version=st.integers(0, 2))
    def publish(self, number: int, tier: Any, version: int) -> None:
        self._publish(number, tier=tier, config_hash=config_hash([number, version]))

    @rule(
        number=st.integers(0, INSTANCES - 1),
        status=st.sampled_from(["active", "suspended", "inactive"]),
        unloaded=st.booleans(),
    )
    def switch(self, number: int, status: Any, unloaded: bool) -> None:
        if UUID(int=number) in self.truth:
            self._publish(number, status=status, is_unloaded=unloaded)

    @rule(number=st.integers(0, INSTANCES - 1))
    def delete(self, number: int) -> None:
        instance_id = UUID(int=number)
        if not self._is_gone(instance_id):
            self._publish(number)
            self.truth[instance_id].is_deleted = True
            self.feed[-1] = msgspec.structs.replace(self.feed[-1], is_deleted=True)

    def _publish(self, number: int, **changes: Any) -> None:
        instance_id = UUID(int=number)
        known = self.truth.get(instance_id)
        if known is not None and known.is_deleted:
            return
        self.revision += 1
        base = known.snapshot if known else msgspec.structs.replace(TEMPLATE, instance_id=instance_id)
        snapshot = msgspec.structs.replace(base, revision=self.revision, **changes)
        self.truth[instance_id] = Truth(snapshot)
        self.feed.append(
            InstanceChange(
                instance_id=instance_id,
                org_id=snapshot.org_id,
                revision=snapshot.revision,
                config_hash=snapshot.config_hash,
                status=snapshot.status,
                tier=snapshot.tier,
                is_unloaded=snapshot.is_unloaded,
            )
        )

    @rule(data=st.data())
    def hear_any_change_ever_made(self, data: st.DataObject) -> None:
        """Late, doubled, out of order."""
        if self.feed:
            self.hear(data.draw(st.sampled_from(self.feed)))

    @rule()
    def hear_everything(self) -> None:
        for change in self.feed:
            self.hear(change)

    def hear(self, change: InstanceChange) -> None:
        async def apply() -> None:
            self.pool.apply(change)

        self.do(apply())

    @rule(away=st.booleans())
    def control_plane(self, away: bool) -> None:
        self.is_away = away

    @rule()
    def the_control_plane_is_back(self) -> None:
        self.is_away = False
        self.pool.source_is_back()

    # --- builds and time ---

    @rule(number=st.integers(0, INSTANCES - 1), fails=st.booleans())
    def break_or_mend(self, number: int, fails: bool) -> None:
        (self.builder.failing.add if fails else self.builder.failing.discard)(UUID(int=number))
        self.ever_failing |= self.builder.failing

    @rule(number=st.integers(0, INSTANCES - 1), size=st.sampled_from([0, 20, 60, 120]))
    def next_build_is_as_large(self, number: int, size: int) -> None:
        self.builder.sizes[UUID(int=number)] = size

    @rule(size=st.sampled_from([0, 30, 90]))
    def the_shared_plugin_grows_or_shrinks(self, size: int) -> None:
        self.plugin.resident_bytes = size
        self.wait(1)

    @rule(open_=st.booleans())
    def hold_builds(self, open_: bool) -> None:
        (self.builder.may_finish.set if open_ else self.builder.may_finish.clear)()

    @rule(ticks=st.integers(1, 30))
    def let_tasks_run(self, ticks: int) -> None:
        self.do(self._ticks(ticks))

    async def _ticks(self, ticks: int) -> None:
        for _ in range(ticks):
            await asyncio.sleep(0)

    @rule(seconds=st.sampled_from([0.5, 2, 70, 150, 600]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

        async def maintain() -> None:
            self.pool.maintain()

        self.do(maintain())

    def _is_gone(self, instance_id: UUID) -> bool:
        return instance_id not in self.truth or self.truth[instance_id].is_deleted

    def _ever(self, instance_id: UUID, **fields: Any) -> bool:
        """Whether the control plane ever said this of the instance; the pool may not have heard of later news."""
        return any(
            c.instance_id == instance_id and all(getattr(c, k) == v for k, v in fields.items()) for c in self.feed
        )
