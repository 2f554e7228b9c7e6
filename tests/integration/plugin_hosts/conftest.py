from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime_worker.plugins.hosted import HostedBundle
from runtime_worker.plugins.hosts import PluginHosts
from runtime_worker.plugins.packages import PackageCache
from shared.ids import new_id
from shared.packages.directory import DirectoryStore
from shared.packages.environments import Environments
from shared.settings import PluginHostSettings
from tests.fakes.plugin_packages import package, snapshot_of

MakeHosts = Callable[..., PluginHosts]
LoadHosted = Callable[..., Awaitable[HostedBundle]]


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    return Environments(tmp_path_factory.mktemp("environments"))


@pytest.fixture
async def make_hosts(store: DirectoryStore, environments: Environments, tmp_path: Path) -> AsyncIterator[MakeHosts]:
    """`options` go to PluginHosts, or are its limits."""
    made: list[PluginHosts] = []

    def make(*, network: Any = "own", environments: Environments = environments, **limits: Any) -> PluginHosts:
        cache = PackageCache(store, tmp_path / "cache")
        settings = PluginHostSettings(**limits)
        hosts = PluginHosts(cache, environments, settings, network=network, needs_walls=True)
        made.append(hosts)
        return hosts

    yield make
    for hosts in made:
        await hosts.close()


@pytest.fixture
def load(make_hosts: MakeHosts, store: DirectoryStore) -> LoadHosted:
    """Load a plugin of an organization from source options; without `hosts` into ones of its own."""

    async def load(
        *,
        hosts: PluginHosts | None = None,
        org_id: Any = None,
        settings: dict[str, Any] | None = None,
        stateless: bool = True,
        settings_schema: tuple[dict[str, Any], ...] = (),
        **options: Any,
    ) -> HostedBundle:
        data = package(**options)
        org_id = org_id or new_id()
        more: dict[str, Any] = {key: options[key] for key in ("pid", "version") if key in options}
        more |= {"stateless": stateless, "settings_schema": settings_schema}
        plugin = snapshot_of(data, org_id=org_id, settings=settings, **more)
        await store.put(plugin.package_key, data)
        return await (hosts or make_hosts()).load(plugin, org_id=org_id, instance_id=new_id())

    return load
