"""Bundles: loaded from verified packages, shared by the rule, closed once, gone when closed."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from runtime_worker.plugins.base import PluginBundle
from runtime_worker.plugins.in_process import InProcessLoader
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.plugins.registry import BundleRegistry
from shared.errors import PluginLoadFailed
from shared.ids import new_id
from shared.packages.directory import DirectoryStore
from shared.secrets import SecretKeyring
from shared.settings import WorkerSettings, read_worker_settings
from shared.snapshots import SEALED_FIELD, PluginSnapshot, plugin_setting_place
from tests.fakes.plugin_packages import package, plugin_source, snapshot_of
from tests.unit.plugins.conftest import LoadPlugin

ORG, INSTANCE = new_id(), new_id()
STATE = """
seen = []

@uvtool
def remember(word: str) -> list:
    seen.append(word)
    return seen
"""
StorePackage = Callable[..., Awaitable[PluginSnapshot]]


class CountingLoader(InProcessLoader):
    """Counts loads; holds each until `go` is set, so that a test can have several callers wait for one."""

    def __init__(self, packages: PackageCache) -> None:
        super().__init__(packages)
        self.loads = 0
        self.go = asyncio.Event()
        self.go.set()

    async def load(self, plugin: PluginSnapshot, *, org_id: UUID, instance_id: UUID) -> Any:
        self.loads += 1
        await self.go.wait()
        return await super().load(plugin, org_id=org_id, instance_id=instance_id)


@pytest.fixture
def loader(cache: PackageCache) -> CountingLoader:
    return CountingLoader(cache)


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    variables = {
        "SECRET_KEY": "a key for tests that is long enough",
        "WORKER_TOKEN": "a token for tests that is long enough",
        "ENCRYPTION_KEYS": "k:" + "00" * 32,
        "STORAGE_ROOT": str(tmp_path / "store"),
        "PACKAGE_CACHE": str(tmp_path / "cache"),
        "CONTROL_PLANE_URL": "http://control.plane",
        "MONGO_URL": "mongodb://nowhere",
        "REDIS_URL": "redis://nowhere",
        "BROKER_URL": "nats://nowhere",
    }
    return read_worker_settings({f"CADENCE_{name}": value for name, value in variables.items()})


@pytest.fixture
def registry(settings: WorkerSettings, loader: CountingLoader) -> BundleRegistry:
    return BundleRegistry(settings, loader=loader)


@pytest.fixture
def keyring(settings: WorkerSettings) -> SecretKeyring:
    return settings.security.keyring


async def acquire(registry: BundleRegistry, plugin: PluginSnapshot, org_id: UUID = ORG) -> PluginBundle:
    return await registry.acquire(plugin, org_id=org_id, instance_id=INSTANCE)


async def answer(bundle: PluginBundle, tool: str, **arguments: Any) -> Any:
    return (await bundle.call(tool, arguments, timeout_seconds=5)).shown


async def test_a_package_is_fetched_once_and_kept(
    cache: PackageCache, store: DirectoryStore, stored: StorePackage
) -> None:
    plugin = await stored(package())
    first = await asyncio.gather(*[cache.unpacked(plugin) for _ in range(5)])
    await store.delete(plugin.package_key)

    assert {await cache.unpacked(plugin), *first} == {first[0]}
    assert first[0].folder == "calc"


async def test_a_package_with_other_bytes_than_announced_is_not_run(store: DirectoryStore, cache: PackageCache) -> None:
    plugin = snapshot_of(package())
    await store.put(plugin.package_key, package(tools="raise SystemExit", tool_names=""))

    with pytest.raises(PluginLoadFailed, match="not the one that was uploaded"):
        await cache.unpacked(plugin)


async def test_a_stateless_plugin_is_shared_within_an_organization_and_closed_after_the_last_use(
    registry: BundleRegistry, loader: CountingLoader, stored: StorePackage, tmp_path: Path
) -> None:
    log = tmp_path / "cleanups"
    agent = f"async def cleanup(self):\n    open({str(log)!r}, 'a').write('x')"
    plugin = await stored(package(agent=agent))
    loader.go.clear()
    waiting = [asyncio.create_task(acquire(registry, plugin)) for _ in range(3)]
    await asyncio.sleep(0)
    loader.go.set()

    bundles = await asyncio.gather(*waiting)

    assert (len(set(map(id, bundles))), loader.loads, registry.count) == (1, 1, 1)
    for bundle in bundles[1:]:
        await registry.release(bundle)
    assert not log.exists()
    assert await answer(bundles[0], "add", a=1, b=2) == 3
    await registry.release(bundles[0])
    assert (log.read_text(), registry.count) == ("x", 0)
    with pytest.raises(ValueError, match="too often"):
        await registry.release(bundles[0])


async def test_a_bundle_that_all_give_back_at_the_same_moment_is_closed_once_and_forgotten(
    registry: BundleRegistry, stored: StorePackage
) -> None:
    plugin = await stored(package())
    bundles = [await acquire(registry, plugin) for _ in range(3)]
    kept = weakref.ref(bundles[0])
    await asyncio.gather(*(registry.release(bundle) for bundle in bundles))
    assert registry.count == 0
    bundles.clear()
    gc.collect()
    assert kept() is None


async def test_a_plugin_that_is_not_trusted_any_more_does_not_go_on_where_it_was_trusted(
    registry: BundleRegistry, stored: StorePackage
) -> None:
    plugin = await stored(package())
    trusted = await acquire(registry, msgspec.structs.replace(plugin, trusted=True))
    assert await acquire(registry, plugin) is not trusted
    await registry.close()


async def test_nothing_is_shared_between_organizations_settings_or_users_of_a_stateful_plugin(
    registry: BundleRegistry, stored: StorePackage
) -> None:
    system = {"data": package(tools=STATE, tool_names="remember")}
    stateless = await stored(**system)
    other_settings = await stored(**system, settings={"units": "C"})
    stateful = await stored(
        package(pid="com.acme.state", tools=STATE, tool_names="remember"), pid="com.acme.state", stateless=False
    )

    bundles = [
        await acquire(registry, stateless),
        await acquire(registry, stateless, org_id=new_id()),
        await acquire(registry, other_settings),
        await acquire(registry, stateful),
        await acquire(registry, stateful),
    ]

    assert [await answer(bundle, "remember", word=str(i)) for i, bundle in enumerate(bundles)] == [
        [str(i)] for i in range(5)
    ]
    for bundle in bundles:
        await registry.release(bundle)


async def test_two_versions_and_two_tenants_of_one_pid_answer_each_for_itself(
    registry: BundleRegistry, stored: StorePackage
) -> None:
    def who(name: str) -> bytes:
        return package(tools=f"@uvtool\ndef who() -> str:\n    return {name!r}", tool_names="who")

    plugins = [
        await stored(who("system 1"), version="1.0.0"),
        await stored(who("system 2"), version="2.0.0"),
        await stored(who("tenant a"), org_id=new_id()),
        await stored(who("tenant b"), org_id=new_id()),
    ]

    bundles = [await acquire(registry, plugin, plugin.org_id or ORG) for plugin in plugins]

    assert [await answer(bundle, "who") for bundle in bundles] == ["system 1", "system 2", "tenant a", "tenant b"]
    await registry.close()
    assert registry.count == 0


async def test_sealed_settings_are_opened_and_equal_secrets_are_shared(
    registry: BundleRegistry, stored: StorePackage, keyring: SecretKeyring
) -> None:
    agent = "def initialize(self, config):\n    global token\n    token = config['token']"
    data = package(tools="@uvtool\ndef get() -> str:\n    return token", tool_names="get", agent=agent)

    def sealed() -> dict[str, Any]:
        place = plugin_setting_place(INSTANCE, "system:com.acme.calc@1.0.0", "token")
        return {"token": {SEALED_FIELD: keyring.seal('"s3cret"', **place)}}

    one, other = await stored(data, settings=sealed()), await stored(data, settings=sealed())
    assert one.settings != other.settings

    bundles = [await acquire(registry, one), await acquire(registry, other)]

    assert bundles[0] is bundles[1]
    assert await answer(bundles[0], "get") == "s3cret"
    for bundle in bundles:
        await registry.release(bundle)


async def test_one_who_gives_up_waiting_does_not_take_the_bundle_from_the_others(
    registry: BundleRegistry, loader: CountingLoader, stored: StorePackage
) -> None:
    plugin = await stored(package())
    loader.go.clear()
    leaving, staying = (asyncio.create_task(acquire(registry, plugin)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    loader.go.set()

    bundle = await staying

    assert (await answer(bundle, "add", a=1, b=1), loader.loads) == (2, 1)
    await registry.release(bundle)
    assert registry.count == 0


async def test_the_last_one_to_give_up_stops_the_loading(
    registry: BundleRegistry, loader: CountingLoader, stored: StorePackage
) -> None:
    plugin = await stored(package())
    loader.go.clear()
    leaving = asyncio.create_task(acquire(registry, plugin))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})

    assert registry.count == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"top": "raise ValueError('canary-1')"}, "raised ValueError"),
        ({"top": "import sys; sys.exit(3)"}, "raised SystemExit"),
        ({"agent": "def initialize(self, config):\n    raise KeyError('canary-1')"}, "raised KeyError"),
        ({"source": "x = 1"}, "has no plugin class"),
    ],
)
async def test_a_plugin_that_does_not_start_says_so_and_may_be_tried_again(
    registry: BundleRegistry, loader: CountingLoader, stored: StorePackage, options: dict[str, Any], reason: str
) -> None:
    plugin = await stored(package(**options))

    for _ in range(2):
        with pytest.raises(PluginLoadFailed, match=reason) as failure:
            await acquire(registry, plugin)
        assert "canary" not in failure.value.detail

    assert (loader.loads, registry.count) == (2, 0)


async def test_a_plugin_that_never_finishes_importing_is_given_up(load: LoadPlugin) -> None:
    source = plugin_source(top="import threading\nthreading.Event().wait()")

    with pytest.raises(PluginLoadFailed, match="did not start within"):
        await load(source=source, load_seconds=0.1)


async def test_a_failing_cleanup_does_not_keep_a_bundle_alive(registry: BundleRegistry, stored: StorePackage) -> None:
    plugin = await stored(package(agent="async def cleanup(self):\n    import sys\n    sys.exit(1)"))
    bundle = await acquire(registry, plugin)

    await registry.release(bundle)

    assert registry.count == 0


async def test_a_closed_bundle_leaves_nothing_behind(load: LoadPlugin) -> None:
    bundle = await load()
    await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=5)
    running: Any = bundle._running
    agent = weakref.ref(type(running.agent))
    del running

    await bundle.close()

    async with asyncio.timeout(10):
        # The thread of the last call may still be on its way out.
        while agent() is not None:
            await asyncio.sleep(0.01)
            gc.collect()
    assert (await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=5)).is_error
