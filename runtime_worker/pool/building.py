"""Building one orchestrator out of shared parts, and giving the parts back."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from runtime_worker.engines.base import Engine, EngineParts, Orchestrator
from runtime_worker.engines.choices import ModelKey, llm_config, model_keys
from runtime_worker.engines.registry import loaded_engine, prepare_engine
from runtime_worker.models.base import ModelClient
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.registry import BundleRegistry
from runtime_worker.pool.footprint import Footprints, footprint_bytes
from shared.errors import OrchestratorBuildFailed, SecretUnreadable
from shared.security.key_wrapping import KeyWrapping, data_keyring
from shared.snapshots import OrchestratorSnapshot


class BuiltFromParts:
    """An orchestrator with the uses it holds of shared models and bundles."""

    def __init__(
        self,
        models: ModelRegistry,
        bundles: BundleRegistry,
        wrapping: KeyWrapping,
        footprints: Footprints,
        one_at_a_time: asyncio.Lock,
    ) -> None:
        self._models = models
        self._bundles = bundles
        self._wrapping = wrapping
        self._footprints = footprints
        self._one_at_a_time = one_at_a_time
        self._clients: dict[ModelKey, ModelClient] = {}
        self._plugins: list[PluginBundle] = []
        self._orchestrator: Orchestrator | None = None
        self.own_bytes = 0

    @property
    def orchestrator(self) -> Orchestrator:
        if self._orchestrator is None:
            raise RuntimeError("not built")
        return self._orchestrator

    @property
    def models(self) -> Mapping[ModelKey, ModelClient]:
        return self._clients

    @property
    def bundles(self) -> Sequence[PluginBundle]:
        return self._plugins

    async def build(self, snapshot: OrchestratorSnapshot) -> None:
        try:
            keyring = await data_keyring(self._wrapping, snapshot.data_keys)
        except SecretUnreadable as error:
            raise OrchestratorBuildFailed(error.detail) from None
        for key in sorted(model_keys(snapshot), key=str):
            config_id, model_name = key
            config = llm_config(snapshot, config_id)
            self._clients[key] = self._models.acquire(config, model_name, snapshot.org_id, keyring)
        for plugin in snapshot.plugins:
            bundle = await self._bundles.acquire(
                plugin, org_id=snapshot.org_id, instance_id=snapshot.instance_id, keyring=keyring
            )
            self._plugins.append(bundle)
        engine = loaded_engine(snapshot.framework_type, snapshot.mode)
        if engine is None:
            # In a thread: the first instance of a framework imports it, and streams must not wait for that.
            engine = await asyncio.to_thread(prepare_engine, snapshot.framework_type, snapshot.mode)
        plugins = frozenset((plugin.pid, plugin.version, plugin.digest) for plugin in snapshot.plugins)
        kind = snapshot.framework_type, snapshot.mode, plugins, len(self._clients)
        config_bytes = len(msgspec.json.encode((snapshot.whoami, snapshot.config, snapshot.plugins)))
        async with self._one_at_a_time:
            # A turn of the loop for everybody else, so that builds do not follow one upon the other before streams.
            await asyncio.sleep(0)
            self._orchestrator = await engine.build(snapshot, EngineParts(self._clients, tuple(self._plugins)))
            self.own_bytes = self._footprints.of(kind, config_bytes, lambda: self._measure(engine))

    def _measure(self, engine: Engine) -> int:
        shared = [*self._clients.values(), *self._plugins, engine]
        for plugin_bundle in self._plugins:
            shared += plugin_bundle.tools
        return footprint_bytes(self._orchestrator, shared=shared)

    async def close(self) -> None:
        self._orchestrator = None
        while self._clients:
            self._models.release(self._clients.popitem()[1])
        while self._plugins:
            await self._bundles.release(self._plugins.pop())


class PartsBuilder:
    """Builds from the process's shared models and plugin bundles."""

    def __init__(self, models: ModelRegistry, bundles: BundleRegistry, wrapping: KeyWrapping) -> None:
        self._models = models
        self._bundles = bundles
        self._wrapping = wrapping
        self._footprints = Footprints()
        self._one_at_a_time = asyncio.Lock()

    async def build(self, snapshot: OrchestratorSnapshot) -> BuiltFromParts:
        built = BuiltFromParts(self._models, self._bundles, self._wrapping, self._footprints, self._one_at_a_time)
        try:
            await built.build(snapshot)
        except BaseException:
            # Also when cancelled: a half-built instance must not keep a tenant's key or plugin alive.
            await built.close()
            raise
        return built
