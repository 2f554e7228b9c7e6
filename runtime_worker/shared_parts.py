"""What instances share in this process: model connections, model clients, plugin bundles and their packages."""

from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.plugins.hosts import PluginHosts
from runtime_worker.plugins.registry import BundleRegistry
from runtime_worker.pool.building import PartsBuilder
from shared.security.opening import open_wrapping
from shared.settings import WorkerSettings


class SharedParts:
    """Opened before the first build, closed after the last orchestrator."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._connections = ModelConnections(allow_private=settings.allow_private_model_hosts)
        self._models = ModelRegistry(self._connections, settings.security.keyring)
        self._bundles = BundleRegistry(settings)
        self._wrapping = open_wrapping(settings.security)
        self.builder = PartsBuilder(self._models, self._bundles, self._wrapping)

    @property
    def model_count(self) -> int:
        return self._models.count

    @property
    def bundle_count(self) -> int:
        return self._bundles.count

    @property
    def bundles(self) -> BundleRegistry:
        return self._bundles

    @property
    def hosts(self) -> PluginHosts:
        return self._bundles.hosts

    async def open(self) -> None:
        await self._connections.open()

    async def close(self) -> None:
        await self._bundles.close()
        await self._connections.close()
        await self._wrapping.close()
