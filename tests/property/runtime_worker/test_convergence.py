"""Workers follow the control plane whatever is lost, doubled, late, out of order or away; and never go back."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from redis.exceptions import ConnectionError as RedisIsAway

from runtime_worker.pool.central_points import CentralPoints
from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.pool.reconciler import Reconciler
from runtime_worker.topology import Topology
from shared.config_hash import config_hash
from shared.errors import DomainError, NotFound, StoreUnavailable
from shared.placement import rank
from shared.snapshots import ChangePage, InstanceChange, OrchestratorSnapshot
from shared.workers import InstanceState, WorkerRecord, WorkerRegistry
from tests.fakes.clock import ManualClock
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder

T = TypeVar("T")
INSTANCES, WORKERS = 3, 2
TEMPLATE = instance_snapshot(llm_config_snapshot("http://model.test/v1"))
NUMBERS, WORKER = st.integers(0, INSTANCES - 1), st.integers(0, WORKERS - 1)


class Registry(WorkerRegistry):
    """What Redis would hold, and whether it answers."""

    def __init__(self) -> None:
        self.is_away = False
        self.records: dict[str, WorkerRecord] = {}
        self.instances: dict[str, dict[UUID, InstanceState]] = {}

    def _ask(self) -> None:
        if self.is_away:
            raise RedisIsAway

    async def announce(self, record: WorkerRecord, *, used: Collection[UUID] = ()) -> None:
        self._ask()
        self.records[record.worker_id] = record

    async def live(self) -> list[WorkerRecord]:
        self._ask()
        return sorted(self.records.values(), key=lambda record: record.worker_id)

    async def report(self, worker_id: str, states: Iterable[InstanceState]) -> None:
        self._ask()
        self.instances.setdefault(worker_id, {}).update({state.instance_id: state for state in states})

    async def forget(self, worker_id: str, instance_id: UUID) -> None:
        self._ask()
        self.instances.get(worker_id, {}).pop(instance_id, None)


class Truth:
    """The control plane: every instance's newest state by revision, and whether anybody can ask."""

    def __init__(self) -> None:
        self.is_away = False
        self.revision = 0
        self.snapshots: dict[UUID, OrchestratorSnapshot] = {}
        self.deleted: dict[UUID, int] = {}

    async def snapshot(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        if instance_id not in self.snapshots or instance_id in self.deleted:
            raise NotFound
        return self.snapshots[instance_id]

    async def changes(self, since: int, limit: int) -> ChangePage:
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        rows = [self._change(snapshot) for snapshot in self.snapshots.values()]
        # Pages of two, so that a worker has to turn them.
        rest = sorted((row for row in rows if row.revision > since), key=lambda row: row.revision)
        return ChangePage(tuple(rest[:2]), rest[:2][-1].revision if rest else since, len(rest) > 2)

    def _change(self, snapshot: OrchestratorSnapshot) -> InstanceChange:
        return InstanceChange(
            snapshot.instance_id,
            snapshot.org_id,
            snapshot.revision,
            snapshot.config_hash,
            snapshot.status,
            snapshot.tier,
            snapshot.is_unloaded,
            snapshot.instance_id in self.deleted,
        )


class Worker:
    def __init__(self, worker_id: str, truth: Truth, registry: Registry, clock: ManualClock) -> None:
        self.worker_id = worker_id
        self.builder = ScriptedBuilder()
        self._clock = clock
        self.topology = Topology(registry, worker_id, f"http://{worker_id}", self._describe)
        self.pool = OrchestratorPool(
            self.builder,
            truth.snapshot,
            clock,
            self.topology,
            limits=PoolLimits(max_hot_pool_size=INSTANCES),
            owns=self.topology.owns,
        )
        self.topology.on_membership = self.pool.ownership_changed
        self.topology.report_all = self.pool.report_all
        self.reconciler = Reconciler(self.pool, CentralPoints(), truth.changes, Heap(is_idle=lambda: False))
        self.reconciler.on_observed = self.topology.observed
        self.inbox: list[tuple[int, UUID]] = []
        self.served: dict[UUID, int] = {}

    def _describe(self) -> WorkerRecord:
        observed = self.reconciler.observed_revision
        return WorkerRecord(
            self.worker_id, f"http://{self.worker_id}", "1", self._clock.now(), observed_revision=observed
        )

    async def reconcile(self) -> None:
        """One turn of the reconciler's loop, which nothing woke."""
        self.reconciler.poke()
        await self.follow()

    async def follow(self) -> None:
        """The same after an event."""
        await self.reconciler.take_in()
        self.pool.maintain()


class ConvergenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.truth, self.registry = Truth(), Registry()
        self.outbox: list[tuple[int, UUID]] = []
        self.is_broker_away = False
        self.workers: list[Worker] = []
        self.started = 0
        self.observed: dict[str, int] = {}
        self.shown: dict[tuple[str, UUID], int] = {}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def start(self) -> None:
        self.workers = [self.do(self._new_worker()) for _ in range(WORKERS)]

    async def _new_worker(self) -> Worker:
        self.started += 1
        return Worker(f"worker-{self.started}", self.truth, self.registry, self.clock)

    # --- what admins do ---

    @rule(
        number=NUMBERS,
        tier=st.sampled_from(["hot", "demand"]),
        version=st.integers(0, 2),
        unloaded=st.booleans(),
        skipped=st.sampled_from([0, 0, 1]),
        told=st.sampled_from([True, True, False]),
    )
    def change(self, number: int, tier: Any, version: int, unloaded: bool, skipped: int, told: bool) -> None:
        """Some revisions are nobody's, and of some changes no event tells."""
        instance_id = UUID(int=number)
        if instance_id in self.truth.deleted:
            return
        self.truth.revision += 1 + skipped
        self.truth.snapshots[instance_id] = msgspec.structs.replace(
            TEMPLATE,
            instance_id=instance_id,
            revision=self.truth.revision,
            tier=tier,
            is_unloaded=unloaded,
            config_hash=config_hash([number, version]),
        )
        if told:
            self.outbox.append((self.truth.revision, instance_id))

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        instance_id = UUID(int=number)
        if instance_id in self.truth.snapshots and instance_id not in self.truth.deleted:
            self.change(number, "demand", 0, False, 0, True)
            self.truth.deleted[instance_id] = self.truth.revision

    # --- what happens to events ---

    @rule()
    def relay(self) -> None:
        if not self.is_broker_away:
            for worker in self.workers:
                worker.inbox += self.outbox
            self.outbox.clear()

    @rule(number=WORKER, data=st.data(), fate=st.sampled_from(["arrives", "arrives again later", "is lost"]))
    def one_event(self, number: int, data: st.DataObject, fate: str) -> None:
        worker = self.workers[number]
        if not worker.inbox:
            return
        place = data.draw(st.integers(0, len(worker.inbox) - 1))
        event = worker.inbox[place] if fate == "arrives again later" else worker.inbox.pop(place)
        if fate != "is lost":
            worker.reconciler.hint(*event)
            if worker.reconciler._poked.is_set():
                self.do(worker.follow())

    # --- who is away ---

    @rule(away=st.booleans())
    def broker(self, away: bool) -> None:
        self.is_broker_away = away

    @rule(away=st.booleans())
    def control_plane(self, away: bool) -> None:
        self.truth.is_away = away

    @rule(away=st.booleans(), forgets=st.booleans())
    def redis(self, away: bool, forgets: bool) -> None:
        self.registry.is_away = away
        if away and forgets:
            self.registry.records.clear()
            self.registry.instances.clear()

    @rule(number=WORKER)
    def restart(self, number: int) -> None:
        old = self.workers[number]
        self.do(old.pool.close())
        assert old.builder.violations == []
        # Its heartbeats end, and with them what it said.
        self.registry.records.pop(old.worker_id, None)
        self.registry.instances.pop(old.worker_id, None)
        self.workers[number] = self.do(self._new_worker())

    # --- what workers do ---

    @rule(number=WORKER)
    def poll(self, number: int) -> None:
        self.do(self.workers[number].reconcile())

    @rule(number=WORKER)
    def beat(self, number: int) -> None:
        self.do(self._beat(self.workers[number]))

    async def _beat(self, worker: Worker) -> None:
        await worker.topology.beat()
        await worker.topology._tell_registry()

    @rule(ticks=st.integers(1, 20), seconds=st.sampled_from([0, 1, 61]))
    def time_passes(self, ticks: int, seconds: int) -> None:
        self.clock.advance(seconds)
        self.do(self._ticks(ticks))

    async def _ticks(self, ticks: int) -> None:
        for _ in range(ticks):
            await asyncio.sleep(0)

    @rule(number=WORKER, instance=NUMBERS)
    def request(self, number: int, instance: int) -> None:
        worker, instance_id = self.workers[number], UUID(int=instance)
        entry = worker.pool._index.find(instance_id)
        has_it = entry is not None and entry.may_serve and entry.current is not None
        try:
            lease = self.do(worker.pool.lease(instance_id, TEMPLATE.org_id))
        except DomainError:
            assert not has_it, "what is built serves, whoever is away"
            return
        generation = lease._generation
        assert generation is not None
        assert generation.revision >= worker.served.get(instance_id, 0), "an older revision after a newer one"
        worker.served[instance_id] = generation.revision

        async def release() -> None:
            lease.release()

        self.do(release())

    # --- promises ---

    @invariant()
    def what_workers_say_never_goes_back_and_never_runs_ahead(self) -> None:
        for record in self.registry.records.values():
            assert self.observed.get(record.worker_id, 0) <= record.observed_revision <= self.truth.revision
            self.observed[record.worker_id] = record.observed_revision
        for worker_id, states in self.registry.instances.items():
            for state in states.values():
                key = (worker_id, state.instance_id)
                assert self.shown.get(key, 0) <= state.revision <= self.truth.revision
                assert (state.served_revision or 0) <= state.revision
                self.shown[key] = state.revision

    @rule()
    def everybody_is_back(self) -> None:
        """Without a single event: each worker's own look at the feed, its heartbeats and its builds are enough."""
        self.truth.is_away = self.registry.is_away = False
        for _ in range(3):
            self.clock.advance(61)
            for worker in self.workers:
                self.do(worker.reconcile())
                self.do(self._ticks(80))
                worker.topology.report_all()
                self.do(self._beat(worker))
        live = [worker.worker_id for worker in self.workers]
        assert sorted(self.registry.records) == sorted(live)
        for worker in self.workers:
            # The feed's last line is the newest of all, unless nothing was ever made.
            newest = max((s.revision for s in self.truth.snapshots.values()), default=0)
            assert self.registry.records[worker.worker_id].observed_revision == newest
            for instance_id, snapshot in self.truth.snapshots.items():
                self._has_converged(worker, snapshot, is_deleted=instance_id in self.truth.deleted)

    def _has_converged(self, worker: Worker, snapshot: OrchestratorSnapshot, *, is_deleted: bool) -> None:
        entry = worker.pool._index.find(snapshot.instance_id)
        state = self.registry.instances.get(worker.worker_id, {}).get(snapshot.instance_id)
        if is_deleted:
            assert (entry, state) == (None, None)
            return
        assert entry is not None
        assert (entry.revision, entry.config_hash) == (snapshot.revision, snapshot.config_hash)
        if snapshot.is_unloaded:
            assert entry.current is None
            assert state is not None
            assert (state.state, state.revision, state.served_revision) == ("unloaded", snapshot.revision, None)
            return
        live = [other.worker_id for other in self.workers]
        owns = rank(str(snapshot.instance_id), live)[0] == worker.worker_id
        if entry.current is None:
            assert not (owns and snapshot.tier == "hot")
            assert state is None
            return
        assert state is not None
        assert (state.state, state.revision, state.served_revision, state.served_config_hash) == (
            "ready",
            snapshot.revision,
            snapshot.revision,
            snapshot.config_hash,
        )

    def teardown(self) -> None:
        for worker in self.workers:
            self.do(worker.pool.close())
            assert worker.builder.violations == []
            assert worker.builder.open == []
        self.loop.close()


ConvergenceMachine.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestConvergence = ConvergenceMachine.TestCase
