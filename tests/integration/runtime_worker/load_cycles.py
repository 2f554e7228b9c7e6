"""`python -m … WARM CYCLES DIRECTORY`: load, use and unload real instances again and again in a process of its own.

Prints as JSON what is resident after WARM cycles and after CYCLES more, and what is left when all are unloaded.
"""

import asyncio
import gc
import sys
from pathlib import Path
from uuid import UUID

import msgspec

from runtime_worker.engines.registry import shared_template_count
from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.shared_parts import SharedParts
from runtime_worker.topology import rss_mb
from shared.clock import SystemClock
from shared.frameworks import Framework, Mode
from shared.ids import new_id
from shared.logging import configure_logging
from shared.packages.opening import open_store
from shared.settings import PackageStoreSettings, ProcessSettings, SecuritySettings, WorkerSettings
from shared.snapshots import InstanceChange, OrchestratorSnapshot, PluginSnapshot
from shared.workers import InstanceState
from tests.fakes.instances import KEYRING, instance_snapshot, llm_config_snapshot
from tests.fakes.plugin_packages import package, snapshot_of

TIDY_EVERY = 40
"""As seldom as a worker that is loaded all the time: a full collection takes as long as a dozen cycles."""
MODES = (Mode.SUPERVISOR, Mode.COORDINATOR, Mode.HANDOFF)


class Report(msgspec.Struct):
    warm_mb: float
    after_mb: float
    cycles: int
    models: int
    bundles: int
    templates: int
    hot: int


class Silent:
    def tell(self, state: InstanceState) -> None: ...

    def forget(self, instance_id: UUID) -> None: ...


class Cycles:
    def __init__(self, parts: SharedParts, plugin: PluginSnapshot) -> None:
        self._parts = parts
        self._plugin = plugin
        self._snapshots: dict[UUID, OrchestratorSnapshot] = {}
        self._revision = 0
        self._heap = Heap(is_idle=lambda: True)
        self.pool = OrchestratorPool(
            parts.builder,
            self._fetch,
            SystemClock(),
            Silent(),
            limits=PoolLimits(),
            owns=lambda _: True,
            on_built=self._heap.built,
        )

    async def run(self, cycles: int) -> None:
        for number in range(cycles):
            await self._cycle(number)
            if number % TIDY_EVERY == 0:
                self.pool.maintain()
                self._heap.tidy()
                self.pool.used_since()

    async def _cycle(self, number: int) -> None:
        """Two instances of a new organization that share a model and a plugin: loaded, reloaded, deleted."""
        org_id = new_id()
        model = llm_config_snapshot("http://model.test/v1")
        framework, mode = list(Framework)[number % len(Framework)], MODES[number % len(MODES)]
        pair = [
            msgspec.structs.replace(
                instance_snapshot(model, org_id=org_id, framework=framework, mode=mode), plugins=(self._plugin,)
            )
            for _ in range(2)
        ]
        for snapshot in pair:
            self._tell(snapshot)
            lease = await self.pool.lease(snapshot.instance_id, org_id)
            assert lease.orchestrator.mermaid()
            lease.release()
        assert (self._parts.model_count, self._parts.bundle_count) == (1, 1), "equal parts of one organization are one"
        self._tell(msgspec.structs.replace(pair[0], whoami="Somebody else", config_hash="changed"))
        (await self.pool.lease(pair[0].instance_id, org_id)).release()
        for snapshot in pair:
            self._tell(snapshot, is_deleted=True)
        await self.pool._builds.closed()

    def _tell(self, snapshot: OrchestratorSnapshot, *, is_deleted: bool = False) -> None:
        self._revision += 1
        snapshot = msgspec.structs.replace(snapshot, revision=self._revision, tier="demand")
        self._snapshots[snapshot.instance_id] = snapshot
        self.pool.apply(
            InstanceChange(
                snapshot.instance_id,
                snapshot.org_id,
                snapshot.revision,
                snapshot.config_hash,
                snapshot.status,
                snapshot.tier,
                is_deleted=is_deleted,
            )
        )
        if is_deleted:
            del self._snapshots[snapshot.instance_id]

    async def _fetch(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        return self._snapshots[instance_id]


async def main(warm: int, cycles: int, home: Path) -> Report:
    data = package()
    plugin = msgspec.structs.replace(snapshot_of(data), trusted=True)
    packages = PackageStoreSettings(home / "packages", None, None, "us-east-1", None, None)
    settings = WorkerSettings(
        process=ProcessSettings("development", "ERROR", "json"),
        security=SecuritySettings("x" * 40, "HS256", 30, KEYRING, "y" * 40),
        packages=packages,
        host="127.0.0.1",
        port=1,
        public_url="",
        control_plane_url="",
        mongo_url="",
        redis_url="",
        broker_url="",
        package_cache=home / "cache",
        allow_private_model_hosts=True,
    )
    await open_store(packages).put(plugin.package_key, data)
    parts = SharedParts(settings)
    await parts.open()
    endless = Cycles(parts, plugin)
    await endless.run(warm)
    gc.unfreeze()
    gc.collect()
    warm_mb = rss_mb()
    await endless.run(cycles)
    gc.unfreeze()
    gc.collect()
    report = Report(
        warm_mb,
        rss_mb(),
        cycles,
        parts.model_count,
        parts.bundle_count,
        shared_template_count(),
        endless.pool.counts().hot,
    )
    await endless.pool.close()
    await parts.close()
    return report


if __name__ == "__main__":
    configure_logging("ERROR", "json")
    found = asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
    sys.stdout.write(msgspec.json.encode(found).decode())
