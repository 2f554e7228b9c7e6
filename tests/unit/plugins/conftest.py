from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.in_process import InProcessBundle, InProcessLoader
from runtime_worker.plugins.packages import PackageCache
from shared.ids import new_id
from shared.packages.directory import DirectoryStore
from shared.snapshots import PluginSnapshot
from tests.fakes.plugin_packages import package, snapshot_of

LoadPlugin = Callable[..., Awaitable[InProcessBundle]]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def cache(store: DirectoryStore, tmp_path: Path) -> PackageCache:
    return PackageCache(store, tmp_path / "cache")


@pytest.fixture
def stored(store: DirectoryStore) -> Callable[..., Awaitable[PluginSnapshot]]:
    """Put a package into the store; its snapshot."""

    async def put(data: bytes, **snapshot: Any) -> PluginSnapshot:
        plugin = snapshot_of(data, **snapshot)
        await store.put(plugin.package_key, data)
        return plugin

    return put


@pytest.fixture
async def load(cache: PackageCache, stored: Callable[..., Awaitable[PluginSnapshot]]) -> AsyncIterator[LoadPlugin]:
    """Load a plugin from source options; `settings` are given to it in the clear."""
    bundles: list[PluginBundle] = []

    async def load(
        *, settings: dict[str, Any] | None = None, load_seconds: float = 10.0, **options: Any
    ) -> InProcessBundle:
        plugin = await stored(package(**options), settings=settings)
        loader = InProcessLoader(cache, load_seconds=load_seconds)
        bundle = await loader.load(plugin, org_id=new_id(), instance_id=new_id())
        bundles.append(bundle)
        return bundle

    yield load
    for bundle in bundles:
        await bundle.close()
