"""The pool under any order of changes, requests, failures and waiting, against what a control plane would say."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from runtime_worker.pool.entry import Lease
from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.pool import OrchestratorPool
from shared.config_hash import config_hash
from shared.errors import (
    NotFound,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
    OrchestratorNotLoaded,
    StoreUnavailable,
)
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


class PoolMachine(RuleBasedStateMachine):
    leases: Bundle[Lease] = Bundle("leases")

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
        self.served: dict[UUID, int] = {}
        self.known: dict[UUID, int] = {}
        self.held: list[Lease] = []

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

    # --- runs ---

    @rule(target=leases, number=st.integers(0, INSTANCES - 1))
    def request(self, number: int) -> Any:
        instance_id = UUID(int=number)
        self.builder.may_finish.set()
        known = self.pool._index.known_revision(instance_id)
        try:
            lease = self.do(self.pool.lease(instance_id, TEMPLATE.org_id))
        except NotFound:
            assert self._is_gone(instance_id)
        except OrchestratorDeactivated:
            assert self._ever(instance_id, status="inactive")
        except OrchestratorNotLoaded:
            assert self._ever(instance_id, status="suspended") or self._ever(instance_id, is_unloaded=True)
        except OrchestratorBuildFailed:
            assert instance_id in self.ever_failing
        except StoreUnavailable:
            pass
        else:
            assert lease.snapshot.instance_id == instance_id
            revision = self._revision_of(lease)
            assert revision >= self.served.get(instance_id, 0), "an older revision after a newer one"
            self.served[instance_id] = revision
            assert known <= self.revision
            self.held.append(lease)
            return lease
        return multiple()

    def _revision_of(self, lease: Lease) -> int:
        """The newest revision that what was leased stands for: revisions of equal configuration are the same to it."""
        generation = lease._generation
        assert generation is not None
        return generation.revision

    @rule(target=leases, number=st.integers(0, INSTANCES - 1), tier=st.sampled_from(["hot", "demand"]))
    def publish_and_request(self, number: int, tier: Any) -> Any:
        """What mostly happens; left to chance alone, most requests would ask for what does not exist."""
        if self._is_gone(UUID(int=number)) and UUID(int=number) in self.truth:
            return multiple()
        self._publish(number, tier=tier, status="active", is_unloaded=False, config_hash=config_hash(self.revision))
        self.hear(self.feed[-1])
        return self.request(number)

    @rule(number=st.integers(0, INSTANCES - 1), ticks=st.integers(0, 10))
    def a_request_is_given_up(self, number: int, ticks: int) -> None:
        async def ask() -> None:
            asking = asyncio.create_task(self.pool.lease(UUID(int=number), TEMPLATE.org_id))
            await self._ticks(ticks)
            asking.cancel()
            (came,) = await asyncio.gather(asking, return_exceptions=True)
            if isinstance(came, Lease):
                came.release()

        self.do(ask())

    @rule()
    def the_control_plane_is_back(self) -> None:
        self.is_away = False
        self.pool.source_is_back()

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        async def release() -> None:
            lease.release()
            lease.release()

        self.held.remove(lease)
        self.do(release())

    def _is_gone(self, instance_id: UUID) -> bool:
        return instance_id not in self.truth or self.truth[instance_id].is_deleted

    def _ever(self, instance_id: UUID, **fields: Any) -> bool:
        """Whether the control plane ever said this of the instance; the pool may not have heard of later news."""
        return any(
            c.instance_id == instance_id and all(getattr(c, k) == v for k, v in fields.items()) for c in self.feed
        )

    # --- promises ---

    @invariant()
    def nothing_is_closed_while_leased_or_twice(self) -> None:
        for lease in self.held:
            assert not lease.orchestrator.is_closed  # type: ignore[attr-defined]  # the scripted one knows
        assert self.builder.violations == []

    @invariant()
    def limits_are_exceeded_by_what_is_busy_only(self) -> None:
        if hasattr(self, "pool"):
            memory = self.pool.memory_bytes
            is_over = self.pool.counts().hot > LIMITS.max_hot_pool_size or memory > LIMITS.max_memory_bytes
            idle = [entry for entry in self.pool._index.hot.values() if not entry.is_busy]
            assert not (is_over and idle), f"{len(idle)} idle ones stay with {self.pool.counts().hot} hot, {memory} B"

    @invariant()
    def memory_is_that_of_what_is_open(self) -> None:
        if hasattr(self, "pool"):
            if not self.builder.open:
                assert self.pool.memory_bytes == 0
            assert self.pool.memory_bytes >= 0
            assert self.pool.build_queue_length >= 0

    @invariant()
    def knowledge_never_goes_back(self) -> None:
        if hasattr(self, "pool"):
            for instance_id in self.truth:
                revision = self.pool._index.known_revision(instance_id)
                assert revision >= self.known.get(instance_id, -1)
                self.known[instance_id] = revision

    @invariant()
    def counts_add_up(self) -> None:
        if hasattr(self, "pool"):
            counts = self.pool.counts()
            assert counts.hot + counts.warm + counts.cold == len(self.pool._index)
            assert min(counts.hot, counts.warm, counts.cold) >= 0

    @rule()
    def settle(self) -> None:
        """With everything heard, everything mended and time to spare, the pool is what the control plane says."""
        self.is_away = False
        self.builder.failing.clear()
        self.builder.may_finish.set()
        self.hear_everything()
        for _ in range(3):
            self.clock.advance(61)
            self.do(self._maintain_and_build())
        for instance_id, truth in self.truth.items():
            entry = self.pool._index.find(instance_id)
            state = self.told.states.get(instance_id)
            if truth.is_deleted:
                assert entry is None
                assert state is None
                continue
            assert entry is not None
            assert entry.building is None
            assert entry.revision == truth.snapshot.revision
            if entry.current is not None:
                assert entry.current.snapshot.config_hash == truth.snapshot.config_hash
                assert state is not None
                assert (state.state, state.revision) == ("ready", entry.revision)
            if not entry.may_serve:
                assert entry.current is None
                assert state is not None
                assert state.state == "unloaded"
        leased = {lease.snapshot.instance_id for lease in self.held}
        assert self.pool.counts().hot <= LIMITS.max_hot_pool_size + len(leased)

    async def _maintain_and_build(self) -> None:
        self.pool.maintain()
        await self._ticks(60)
        self.pool.maintain()
        await self._ticks(5)

    def teardown(self) -> None:
        for lease in self.held:
            self._release_now(lease)
        self.builder.may_finish.set()
        if hasattr(self, "pool"):
            self.do(self.pool.close())
            assert self.builder.open == [], "something built was never given back"
        self.loop.close()

    def _release_now(self, lease: Lease) -> None:
        async def release() -> None:
            lease.release()

        self.do(release())


PoolMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPool = PoolMachine.TestCase
