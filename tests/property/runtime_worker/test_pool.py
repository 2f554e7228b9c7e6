"""The pool under any order of changes, requests, failures and waiting, against what a control plane would say."""

import asyncio
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, invariant, multiple, rule

from runtime_worker.pool.entry import Lease
from shared.config_hash import config_hash
from shared.errors import (
    NotFound,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
    OrchestratorNotLoaded,
    StoreUnavailable,
)
from tests.property.runtime_worker.pool_world import INSTANCES, LIMITS, TEMPLATE, PoolWorld


class PoolMachine(PoolWorld):
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.served: dict[UUID, int] = {}
        self.known: dict[UUID, int] = {}
        self.held: list[Lease] = []

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

    @rule(lease=consumes(leases))
    def release(self, lease: Lease) -> None:
        async def release() -> None:
            lease.release()
            lease.release()

        self.held.remove(lease)
        self.do(release())

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
