"""The plugin bundles of this process: loaded once, counted, shared where allowed, closed after the last use.

A stateless plugin with equal settings is shared between the instances of one organization. A stateful one never is, and
nothing is ever shared between organizations, not even a system plugin.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Hashable
from uuid import UUID

import msgspec

from runtime_worker.plugins.base import BundleLoader, PluginBundle
from runtime_worker.plugins.egress import network_for
from runtime_worker.plugins.hosts import PluginHosts
from runtime_worker.plugins.in_process import InProcessLoader
from runtime_worker.plugins.mcp_loading import MCPLoader
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.plugins.settings import opened_settings
from shared.config_hash import canonical_json
from shared.logging import get_logger
from shared.packages.environments import Environments
from shared.packages.opening import open_store
from shared.security.data_keys import Opener
from shared.settings import WorkerSettings
from shared.snapshots import PluginSnapshot

log = get_logger(__name__)

UPKEEP_SECONDS = 3600.0


class _Entry:
    """One bundle, or one on its way, and how many hold it or wait for it."""

    def __init__(self, plugin: PluginSnapshot, loading: "asyncio.Task[PluginBundle]") -> None:
        self.digest, self.lock = plugin.digest, plugin.lock
        self.loading = loading
        self.bundle: PluginBundle | None = None
        self.uses = 0


class BundleRegistry:
    """The only place where sealed settings are opened: what goes to a loader is a snapshot with plain values.

    `loader` takes the place of those for packages. Raises ConfigurationInvalid when plugins shall have no network and
    nothing can take it from them.
    """

    def __init__(self, settings: WorkerSettings, *, loader: BundleLoader | None = None) -> None:
        self._keyring: Opener = settings.security.keyring
        self._store = open_store(settings.packages)
        self._packages = PackageCache(self._store, settings.package_cache / "packages")
        self._environments = Environments(
            settings.package_cache / "environments", index_url=settings.packages.index_url
        )
        self._given = loader
        self._in_process = InProcessLoader(self._packages)
        self.hosts = PluginHosts(
            self._packages,
            self._environments,
            settings.plugin_hosts,
            network=network_for(settings.plugin_hosts.egress),
            needs_walls=settings.process.is_production,
        )
        self._mcp = MCPLoader(allow_private=settings.allow_private_model_hosts)
        self._entries: dict[Hashable, _Entry] = {}
        self._held: dict[PluginBundle, tuple[Hashable, _Entry]] = {}
        self.on_installing: Callable[[UUID, str], None] = lambda instance_id, stage: None
        """Told when an instance has to wait for packages to be installed, with words for its admin."""

    @property
    def count(self) -> int:
        """Bundles that are loaded or being loaded."""
        return len(self._entries)

    async def acquire(
        self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID, keyring: Opener | None = None
    ) -> PluginBundle:
        """A bundle to be given back with `release`. `keyring` opens what the organization sealed.

        Raises PluginLoadFailed or StoreUnavailable.
        """
        opened = msgspec.structs.replace(
            plugin, settings=opened_settings(plugin, instance_id, keyring or self._keyring)
        )
        key = _key(opened, org_id)
        entry = self._entries.get(key)
        if entry is None:
            loading = asyncio.create_task(self._loader_of(plugin).load(opened, org_id=org_id, instance_id=instance_id))
            entry = self._entries[key] = _Entry(plugin, loading)
        entry.uses += 1
        if self._waits_for_packages(entry):
            self.on_installing(instance_id, f"installing the dependencies of {plugin.pid}@{plugin.version}")
        try:
            # Shielded: one who gives up must not take the bundle from the others who wait for it.
            bundle = await asyncio.shield(entry.loading)
        except BaseException:
            if self._is_last_use(key, entry):
                await asyncio.shield(_end(entry))
            raise
        entry.bundle = bundle
        self._held[bundle] = (key, entry)
        return bundle

    async def release(self, bundle: PluginBundle) -> None:
        """Give one use back. The last one closes the bundle, exactly once; when this returns it is closed."""
        if bundle not in self._held:
            raise ValueError("the bundle is not one of this registry's, or was released too often")
        key, entry = self._held[bundle]
        if self._is_last_use(key, entry):
            await asyncio.shield(_end(entry))

    async def close(self) -> None:
        """Close every bundle, used or not, and the package store. The process is about to end."""
        entries, self._entries, self._held = list(self._entries.values()), {}, {}
        for entry in entries:
            await _end(entry)
        await self.hosts.close()
        await self._store.close()

    async def forget_packages(self, digests: Collection[str]) -> None:
        """Remove packages from this machine, but those that another organization uses as well."""
        used = {entry.digest for entry in self._entries.values()}
        await self._packages.remove([digest for digest in digests if digest not in used])

    async def upkeep(self) -> None:
        """Remove packages and environments that nobody uses any more, now and every hour, until cancelled.

        Before that, what the plugins of killed workers left behind.
        """
        try:
            await asyncio.to_thread(self._environments.workplaces.open)
        except OSError as error:
            log.warning("workplaces_not_opened", error=type(error).__name__)
        while True:
            entries = list(self._entries.values())
            await self._packages.prune({entry.digest for entry in entries})
            await self._environments.prune({entry.lock for entry in entries})
            await asyncio.sleep(UPKEEP_SECONDS)

    def _waits_for_packages(self, entry: _Entry) -> bool:
        return bool(entry.lock) and not entry.loading.done() and not self._environments.has(entry.lock)

    def _loader_of(self, plugin: PluginSnapshot) -> BundleLoader:
        if plugin.kind == "mcp":
            return self._mcp
        if self._given is not None:
            return self._given
        return self._in_process if plugin.trusted and plugin.source == "system" else self.hosts

    def _is_last_use(self, key: Hashable, entry: _Entry) -> bool:
        """Count one use less. Nothing here awaits: of those who give up together, exactly one ends it."""
        entry.uses -= 1
        if entry.uses > 0:
            return False
        # Whoever comes now gets a bundle of its own.
        if self._entries.get(key) is entry:
            del self._entries[key]
        if entry.bundle is not None:
            self._held.pop(entry.bundle, None)
        return True


async def _end(entry: _Entry) -> None:
    """Close a loaded bundle; stop one that is still being loaded."""
    entry.loading.cancel()
    await asyncio.wait({entry.loading})
    if not entry.loading.cancelled() and entry.loading.exception() is None:
        await entry.loading.result().close()


def _key(plugin: PluginSnapshot, org_id: UUID) -> Hashable:
    """What may be shared. Settings count by a digest, so that no secret lives on in a key."""
    if not plugin.manifest.stateless:
        return object()
    settings = hashlib.sha256(canonical_json(plugin.settings)).hexdigest()
    return (org_id, plugin.source, plugin.pid, plugin.version, plugin.digest, plugin.trusted, settings)
