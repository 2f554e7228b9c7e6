"""A pool whose builds are scripted, and the control plane and the reports around it."""

import asyncio
from uuid import UUID

import msgspec

from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.pool.preparation import NOTHING, Prewarming
from shared.errors import NotFound, StoreUnavailable
from shared.snapshots import InstanceChange, OrchestratorSnapshot, Tier
from shared.workers import InstanceState
from tests.fakes.clock import ManualClock
from tests.fakes.instances import instance_snapshot, llm_config_snapshot
from tests.fakes.orchestrators import ScriptedBuilder

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


async def ticks(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
