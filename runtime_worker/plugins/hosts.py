"""All plugin hosts of a worker: where their code and dependencies come from, and an eye on what they use."""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

from runtime_worker.plugins.egress import Network
from runtime_worker.plugins.hosted import CONCURRENT_STARTS, HostedBundle, HostParts
from runtime_worker.plugins.launching import HostLauncher, Surroundings
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.plugins.usage import Usage, usage_of
from shared.packages.environments import Environments, bundled_wheels
from shared.settings import PluginHostSettings
from shared.snapshots import PluginSnapshot
from shared.workers import PluginCircuit

WATCH_SECONDS = 1.0
REMEMBERED_SECONDS = 900.0
MAX_TOLD = 50
"""Circuits in a heartbeat, which is written every second."""
ESSENTIAL_WALLS = frozenset({"files", "system calls"})


class PluginHosts:
    """See `base.BundleLoader`. Takes snapshots whose settings are already opened.

    With `needs_walls` nothing is run where the kernel cannot shut it in.
    """

    def __init__(
        self,
        packages: PackageCache,
        environments: Environments,
        settings: PluginHostSettings,
        *,
        network: Network,
        needs_walls: bool,
    ) -> None:
        self._packages = packages
        self._environments = environments
        walls = ESSENTIAL_WALLS if needs_walls else frozenset()
        # Whoever asked for no network gets none, in development as well.
        walls |= {"network namespace"} if network == "namespace" else set()
        self._launcher = HostLauncher(settings, network, environments.workplaces)
        self._parts = HostParts(self._launcher, asyncio.Semaphore(CONCURRENT_STARTS), walls)
        self._bundles: set[HostedBundle] = set()
        self._without_environment: dict[str, float] = {}

    @property
    def running_count(self) -> int:
        return sum(bundle.process_id is not None for bundle in self._bundles)

    @property
    def resident_bytes(self) -> int:
        """What the hosts have resident; pages that several share count for each."""
        return sum(bundle.resident_bytes for bundle in self._bundles)

    @property
    def circuits(self) -> tuple[PluginCircuit, ...]:
        """Of plugins that ever crashed, the worst first."""
        crashed = [c for bundle in self._bundles if (c := bundle.circuit).crashes]
        return tuple(sorted(crashed, key=lambda c: (c.state == "closed", -c.crashes))[:MAX_TOLD])

    @property
    def without_environment(self) -> tuple[str, ...]:
        """Plugins (`pid@version`) whose dependencies are being installed here, or lately could not be."""
        since = time.monotonic() - REMEMBERED_SECONDS
        return tuple(sorted(name for name, at in self._without_environment.items() if at > since))[:MAX_TOLD]

    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> HostedBundle:
        name = f"{plugin.pid}@{plugin.version}"
        # From the first moment on: its instance says already that it waits.
        self._without_environment[name] = time.monotonic()
        try:
            package = await self._packages.unpacked(plugin)
        except BaseException:
            self._without_environment.pop(name, None)
            raise
        environment = await self._environments.ensure(plugin.lock, wheels=bundled_wheels(package.directory))
        base = await self._environments.base()
        self._without_environment.pop(name, None)
        surroundings = Surroundings(package.directory, package.folder, environment, base)
        bundle = HostedBundle(plugin, org_id, surroundings, self._parts, on_close=self._bundles.discard)
        self._bundles.add(bundle)
        try:
            await bundle.open()
        except BaseException:
            await asyncio.shield(bundle.close())
            raise
        return bundle

    async def watch(self) -> None:
        """Look after the hosts until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            watched = [(bundle, bundle.process_id) for bundle in self._bundles]
            usages = await asyncio.to_thread(_usages, [process_id for _, process_id in watched])
            for (bundle, process_id), usage in zip(watched, usages, strict=True):
                # It may have been replaced while it was measured.
                if bundle.process_id == process_id:
                    bundle.watch(usage)

    async def close(self) -> None:
        await asyncio.gather(*(bundle.close() for bundle in list(self._bundles)))
        await asyncio.to_thread(self._launcher.close)


def _usages(process_ids: Iterable[int | None]) -> list[Usage | None]:
    return [usage_of(process_id) if process_id else None for process_id in process_ids]
