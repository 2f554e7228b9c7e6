"""Many instances of one combination in one process, built beside live streams: what a build takes, what an instance
holds, and whether the streams notice.

Reads a `Crowd` as JSON on standard input, writes a `CrowdResult` as JSON. The pool, the heap and the shared parts are
the worker's own; nothing is served over HTTP, so that only engines are measured.

    python -m tests.benchmarks.crowd < crowd.json
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from uuid import UUID

import msgspec
import uvloop

from runtime_worker.pool.building import BuiltFromParts
from runtime_worker.pool.eviction import PoolLimits
from runtime_worker.pool.heap import Heap
from runtime_worker.pool.pool import OrchestratorPool
from runtime_worker.shared_parts import SharedParts
from runtime_worker.topology import rss_mb
from shared.clock import SystemClock
from shared.config_hash import config_hash
from shared.errors import NotFound
from shared.ids import new_id
from shared.logging import configure_logging
from shared.packages.opening import open_store
from shared.settings import PackageStoreSettings, ProcessSettings, SecuritySettings, WorkerSettings
from shared.snapshots import InstanceChange, OrchestratorSnapshot, PluginSnapshot
from shared.workers import InstanceState
from tests.benchmarks.combinations import DECIDING_MODEL, PROVIDER, RESOURCE_ID, Combination, scoped_package
from tests.benchmarks.measure import percentile
from tests.fakes.instances import KEYRING, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.plugin_packages import snapshot_of

STREAMS = 20
STAGGER_SECONDS = 0.02
TIDY_SECONDS = 0.25


class Crowd(msgspec.Struct, frozen=True):
    combination: Combination
    model_url: str
    writing_model: str
    instances: int


class CrowdResult(msgspec.Struct, frozen=True):
    """`import_ms` is what the framework's first instance waits for its packages. `…_silence_ms` is the longest pause of
    any of the streams between two tokens, with and without builds beside them; the model's own gap is in both."""

    import_ms: float
    import_cpu_ms: float
    build_p50_ms: float
    build_p99_ms: float
    kb_per_instance: float
    quiet_silence_ms: float
    during_silence_ms: float


class TimedBuilder:
    """Builds as the worker does, and notes how long each took."""

    def __init__(self, parts: SharedParts) -> None:
        self._builder = parts.builder
        self.times_ms: list[float] = []

    async def build(self, snapshot: OrchestratorSnapshot) -> BuiltFromParts:
        started = perf_counter()
        built = await self._builder.build(snapshot)
        self.times_ms.append((perf_counter() - started) * 1000)
        return built


class Silent:
    """Nobody is told of the instances' states."""

    def tell(self, state: InstanceState) -> None: ...

    def forget(self, instance_id: UUID) -> None: ...


class Listener:
    """A sink that measures its longest pause between two tokens."""

    def __init__(self) -> None:
        self.longest_ms = self._last = 0.0
        self.tokens = 0

    def message(self, content: str, node: str) -> None:
        now = perf_counter()
        if self.tokens:
            self.longest_ms = max(self.longest_ms, (now - self._last) * 1000)
        self.tokens += 1
        self._last = now

    def agent_start(self, agent: str, node: str) -> None: ...

    def agent_end(self, agent: str, node: str) -> None: ...

    def tool_start(self, tool: str, call_id: str, args: Mapping[str, Any]) -> None: ...

    def tool_end(self, tool: str, call_id: str, **outcome: Any) -> None: ...

    def suggestion(self, content: str) -> None: ...

    async def recorded(self) -> None: ...


class Instances:
    """Snapshots as the control plane would give them out: each in bytes of its own."""

    def __init__(self, crowd: Crowd, plugin: PluginSnapshot) -> None:
        self._org_id = new_id()
        self._llm_config = llm_config_snapshot(crowd.model_url, provider=PROVIDER, model_name=DECIDING_MODEL)
        self._crowd, self._plugin = crowd, plugin
        self._encoded: dict[UUID, bytes] = {}

    def add(self) -> InstanceChange:
        number, combination = len(self._encoded), self._crowd.combination
        snapshot = instance_snapshot(
            self._llm_config,
            framework=combination.framework,
            mode=combination.mode,
            org_id=self._org_id,
            whoami=f"You are number {number}.",
            mode_config=combination.mode_config(self._crowd.writing_model),
        )
        digest = config_hash({**snapshot.config, "number": number})
        snapshot = msgspec.structs.replace(snapshot, plugins=(self._plugin,), config_hash=digest, revision=number + 1)
        self._encoded[snapshot.instance_id] = msgspec.json.encode(snapshot)
        return InstanceChange(
            instance_id=snapshot.instance_id,
            org_id=snapshot.org_id,
            revision=snapshot.revision,
            config_hash=snapshot.config_hash,
            status=snapshot.status,
            tier=snapshot.tier,
            is_unloaded=False,
        )

    async def fetch(self, instance_id: UUID, at_least: int = 0) -> OrchestratorSnapshot:
        try:
            return msgspec.json.decode(self._encoded[instance_id], type=OrchestratorSnapshot)
        except KeyError:
            raise NotFound("no such orchestrator") from None


async def measure(crowd: Crowd, home: Path) -> CrowdResult:
    package = scoped_package()
    plugin = msgspec.structs.replace(snapshot_of(package), trusted=True)
    settings = _settings(home)
    await open_store(settings.packages).put(plugin.package_key, package)
    parts = SharedParts(settings)
    await parts.open()
    heap = Heap(is_idle=lambda: False)
    builder, instances = TimedBuilder(parts), Instances(crowd, plugin)
    limits = PoolLimits(crowd.instances + 10, 3600, 3600)
    pool = OrchestratorPool(
        builder,
        instances.fetch,
        SystemClock(),
        Silent(),
        limits=limits,
        owns=lambda _: True,
        on_built=heap.built,
    )
    heap.started()
    first = instances.add()
    pool.apply(first)
    cpu_before = process_time()
    (await pool.lease(first.instance_id)).release()
    import_cpu_ms = (process_time() - cpu_before) * 1000
    (import_ms,) = builder.times_ms
    async with _tidied(heap):
        await _streams(pool, first.instance_id)  # Everything lazy is paid.
        quiet_ms = await _streams(pool, first.instance_id)
        base_mb = rss_mb()
        done = asyncio.Event()
        listening = asyncio.create_task(_streams(pool, first.instance_id, done))
        await _build(pool, instances, crowd.instances)
        done.set()
        during_ms = await listening
        held_mb = rss_mb()
    times = builder.times_ms[1:]
    await pool.close()
    await parts.close()
    return CrowdResult(
        import_ms=import_ms,
        import_cpu_ms=import_cpu_ms,
        build_p50_ms=percentile(times, 50),
        build_p99_ms=percentile(times, 99),
        kb_per_instance=(held_mb - base_mb) * 1024 / crowd.instances,
        quiet_silence_ms=quiet_ms,
        during_silence_ms=during_ms,
    )


async def _build(pool: OrchestratorPool, instances: Instances, count: int) -> None:
    """Have so many more instances hot, as the change feed brings them at a start: all at once."""
    changes = [instances.add() for _ in range(count)]
    for number, change in enumerate(changes):
        pool.apply(change)
        if number % 10 == 0:
            await asyncio.sleep(0)
    while pool.counts().hot <= count:
        await asyncio.sleep(0.01)


async def _streams(pool: OrchestratorPool, instance_id: UUID, until: asyncio.Event | None = None) -> float:
    """Runs side by side, once each or again and again `until`; the longest pause of any. They are staggered, so that
    all do not begin at the same moment."""
    longest_ms: list[float] = []

    async def run() -> None:
        listener = Listener()
        lease = await pool.lease(instance_id)
        try:
            await lease.orchestrator.run(turn("hello", seconds=120, resource_id=RESOURCE_ID), listener)
        finally:
            lease.release()
        assert listener.tokens > 1, "nothing was streamed"
        longest_ms.append(listener.longest_ms)

    async def client(number: int) -> None:
        await asyncio.sleep(number * STAGGER_SECONDS)
        await run()
        while until is not None and not until.is_set():
            await run()

    async with asyncio.TaskGroup() as group:
        for number in range(STREAMS):
            group.create_task(client(number))
    return max(longest_ms)


@asynccontextmanager
async def _tidied(heap: Heap) -> AsyncIterator[None]:
    """As the reconciler does it: now and then, outside of any hot path."""

    async def tidy() -> None:
        while True:
            heap.tidy()
            await asyncio.sleep(TIDY_SECONDS)

    task = asyncio.create_task(tidy())
    try:
        yield
    finally:
        task.cancel()


def _settings(home: Path) -> WorkerSettings:
    """Of a worker that is never served: only what shared parts look at means something."""
    nowhere = "http://127.0.0.1:9"
    return WorkerSettings(
        process=ProcessSettings("development", "ERROR", "json"),
        security=SecuritySettings("", "HS256", 30, KEYRING, ""),
        packages=PackageStoreSettings(home / "packages", None, None, "us-east-1", None, None),
        host="127.0.0.1",
        port=9,
        public_url=nowhere,
        control_plane_url=nowhere,
        mongo_url="",
        redis_url="",
        broker_url="",
        package_cache=home / "cache",
        allow_private_model_hosts=True,
    )


def main() -> None:
    configure_logging("ERROR")
    crowd = msgspec.json.decode(sys.stdin.buffer.read(), type=Crowd)
    with tempfile.TemporaryDirectory(prefix="cadence-bench-") as home:
        result = uvloop.run(measure(crowd, Path(home)))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
