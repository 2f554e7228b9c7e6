"""How hosts come and go: crashes, back-off, idleness, closing, limits, and the end of their worker."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import uvloop

from runtime_worker.plugins.hosted import HostedBundle
from runtime_worker.plugins.hosts import PluginHosts
from runtime_worker.plugins.in_process import InProcessBundle
from runtime_worker.plugins.packages import PackageCache
from runtime_worker.plugins.registry import BundleRegistry
from runtime_worker.plugins.usage import Usage, usage_of
from shared.ids import new_id
from shared.packages.directory import DirectoryStore
from shared.packages.environments import Environments
from shared.packages.modules import ROOT_PREFIX
from shared.packages.workplaces import Workplaces
from shared.settings import PluginHostSettings, read_worker_settings
from tests.fakes.plugin_packages import package, snapshot_of
from tests.integration.plugin_hosts.conftest import LoadHosted, MakeHosts

TOOLS = """
import asyncio, os
from pathlib import Path

@uvtool
def add(a: int, b: int) -> int:
    return a + b

@uvtool
async def waits() -> str:
    await asyncio.Event().wait()

@uvtool
def crashes() -> str:
    os._exit(7)

@uvtool
def keep(name: str) -> str:
    Path(name).write_text("kept")
    return str(Path(name).resolve())
"""
WORKER = {
    "SECRET_KEY": "a key for tests that is long enough",
    "WORKER_TOKEN": "a token for tests that is long enough",
    "ENCRYPTION_KEYS": "k:" + "00" * 32,
    "CONTROL_PLANE_URL": "http://control.plane",
    "MONGO_URL": "mongodb://nowhere",
    "REDIS_URL": "redis://nowhere",
    "BROKER_URL": "nats://nowhere",
}
"""What a worker has to be told before it starts; nothing of it is reached."""
OPTIONS: dict[str, Any] = {
    "tools": TOOLS,
    "tool_names": "add, waits, crashes, keep",
    "agent": "async def cleanup(self):\n    print('cleaned up')",
}


async def adds(bundle: HostedBundle) -> bool:
    return (await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=10)).content == "3"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def own_bytes(process_id: int) -> int:
    """Resident memory that would be free without it: what it shares with other processes does not count."""
    lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def is_gone(process_id: int) -> bool:
    return not Path(f"/proc/{process_id}").exists()


async def test_killing_a_host_fails_the_calls_it_has_and_no_later_one(load: LoadHosted) -> None:
    bundle = await load(**OPTIONS)
    running = [asyncio.create_task(bundle.call("waits", {}, timeout_seconds=30)) for _ in range(50)]
    assert await adds(bundle)
    victim = bundle.process_id
    assert victim is not None

    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*running)

    assert {(o.content, o.is_error) for o in outcomes} == {("The tool waits failed: its plugin stopped.", True)}
    assert await adds(bundle)
    assert bundle.process_id not in (None, victim)
    assert (bundle.circuit.state, bundle.circuit.crashes) == ("closed", 1)


async def test_repeated_crashes_open_the_circuit_until_a_call_succeeds(load: LoadHosted, make_hosts: MakeHosts) -> None:
    hosts = make_hosts()
    bundle = await load(hosts=hosts, **OPTIONS)
    for _ in range(3):
        assert (await bundle.call("crashes", {}, timeout_seconds=10)).is_error

    refused = await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=10)

    assert "crashed repeatedly" in refused.content
    (circuit,) = hosts.circuits
    assert (circuit.pid, circuit.state, circuit.crashes) == ("com.acme.calc", "open", 3)
    await until(lambda: bundle.circuit.state == "half_open")
    assert await adds(bundle)
    assert hosts.circuits[0].state == "closed"


async def test_an_idle_host_is_stopped_and_started_again_by_the_next_call(load: LoadHosted) -> None:
    bundle = await load(**OPTIONS)
    first = bundle.process_id
    assert first is not None
    bundle._used_at -= 601

    with structlog.testing.capture_logs() as logs:
        bundle.watch(None)
        await until(lambda: is_gone(first))

        assert bundle.process_id is None
        assert await adds(bundle)
    assert [e["line"] for e in logs if e["event"] == "plugin_output"] == ["cleaned up"]
    assert bundle.circuit.crashes == 0


async def test_a_stateful_plugin_is_never_stopped_for_being_idle(load: LoadHosted) -> None:
    bundle = await load(stateless=False, **OPTIONS)
    bundle._used_at -= 10_000

    bundle.watch(None)

    assert await adds(bundle)


async def test_what_a_plugin_prints_is_logged_without_its_secrets(load: LoadHosted) -> None:
    secrets = {"key": "sk-secret", "keys": {"longer": "sk-secret-too"}, "pin": "42"}
    schema = tuple({"key": key, "type": "str", "description": "", "sensitive": True} for key in secrets)
    prints = "def initialize(self, config):\n    self.config = config\nasync def cleanup(self):\n    print(self.config)"
    bundle = await load(agent=prints, settings={**secrets, "unit": "mm"}, settings_schema=schema)

    with structlog.testing.capture_logs() as logs:
        await bundle.close()

    (line,) = [entry["line"] for entry in logs if entry["event"] == "plugin_output"]
    assert line == "{'key': '***', 'keys': {'longer': '***'}, 'pin': '42', 'unit': 'mm'}"


async def test_a_closed_bundle_has_cleaned_up_once_and_left_nothing(load: LoadHosted) -> None:
    bundle = await load(**OPTIONS)
    process_id = bundle.process_id
    kept = Path((await bundle.call("keep", {"name": "note"}, timeout_seconds=10)).content)
    assert kept.read_text() == "kept"
    assert process_id is not None

    with structlog.testing.capture_logs() as logs:
        await bundle.close()

    lines = [e for e in logs if e["event"] == "plugin_output"]
    assert [(e["line"], e["pid"]) for e in lines] == [("cleaned up", "com.acme.calc")]
    assert lines[0]["org_id"]
    assert is_gone(process_id)
    assert not kept.parent.exists()
    assert (await bundle.call("add", {"a": 1, "b": 2}, timeout_seconds=10)).is_error


@pytest.mark.parametrize(
    ("usage", "reason"),
    [(Usage(0.0, 513 * 1024**2), "more than 512 MB of memory"), (Usage(400.0, 0), "more than 60 s of CPU time a call")],
)
async def test_a_host_that_uses_too_much_is_ended(load: LoadHosted, usage: Usage, reason: str) -> None:
    bundle = await load(**OPTIONS)

    bundle.watch(usage)

    assert (bundle.process_id, reason in bundle.circuit.reason) == (None, True)
    assert await adds(bundle)


async def test_what_a_host_uses_is_read_from_the_kernel(load: LoadHosted) -> None:
    bundle = await load(**OPTIONS)
    assert bundle.process_id is not None

    usage = usage_of(bundle.process_id)

    assert usage is not None
    assert 0 < usage.cpu_seconds < 60
    assert 10 * 1024**2 < usage.resident_bytes < 100 * 1024**2
    assert usage_of(2**22 + 1) is None


async def test_one_more_idle_host_costs_at_most_25_megabytes(load: LoadHosted, make_hosts: MakeHosts) -> None:
    hosts = make_hosts()
    bundles = [await load(hosts=hosts, **OPTIONS) for _ in range(2)]

    assert all(own_bytes(bundle.process_id or 0) <= 25_000_000 for bundle in bundles)


def test_hosts_live_and_die_on_the_loop_that_workers_use(tmp_path: Path) -> None:
    """uvloop's pipes and sockets are its own."""

    async def life() -> list[str]:
        store, data = DirectoryStore(tmp_path / "store"), package(**OPTIONS)
        plugin = snapshot_of(data, org_id=new_id())
        await store.put(plugin.package_key, data)
        hosts = PluginHosts(
            PackageCache(store, tmp_path / "cache"),
            Environments(tmp_path / "environments"),
            PluginHostSettings(),
            network="own",
            needs_walls=True,
        )
        bundle = await hosts.load(plugin, org_id=new_id(), instance_id=new_id())
        assert (await bundle.call("crashes", {}, timeout_seconds=10)).is_error
        assert await adds(bundle)
        late = await bundle.call("waits", {}, timeout_seconds=0.05)
        assert "did not answer" in late.content
        with structlog.testing.capture_logs() as logs:
            await hosts.close()
        return [entry["line"] for entry in logs if entry["event"] == "plugin_output"]

    assert uvloop.run(life()) == ["cleaned up"]


async def test_no_host_outlives_its_worker(tmp_path: Path) -> None:
    program = """
        import asyncio, sys
        from pathlib import Path
        from runtime_worker.plugins.hosts import PluginHosts
        from runtime_worker.plugins.packages import PackageCache
        from shared.ids import new_id
        from shared.logging import configure_logging
        from shared.packages.directory import DirectoryStore
        from shared.packages.environments import Environments
        from shared.settings import PluginHostSettings
        from tests.fakes.plugin_packages import package, snapshot_of

        # It never gives the interpreter back, so it cannot notice by itself that nobody is there any more.
        HANGS = "@uvtool\\nasync def hangs() -> str:\\n    while True: pass"

        async def main():
            configure_logging()
            root = Path(sys.argv[1])
            store = DirectoryStore(root / "store")
            hosts = PluginHosts(PackageCache(store, root / "cache"), Environments(root / "environments"),
                                PluginHostSettings(), network="own", needs_walls=True)
            data = package(tools=HANGS, tool_names="hangs")
            plugin = snapshot_of(data, org_id=new_id())
            await store.put(plugin.package_key, data)
            bundle = await hosts.load(plugin, org_id=new_id(), instance_id=new_id())
            call = asyncio.create_task(bundle.call("hangs", {}, timeout_seconds=600))
            await asyncio.sleep(0)
            print(bundle.process_id, flush=True)
            await call

        asyncio.run(main())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as worker:
        assert worker.stdout is not None
        line = await asyncio.to_thread(worker.stdout.readline)
        process_id = int(line)
        assert not is_gone(process_id)

        worker.kill()

    await until(lambda: is_gone(process_id) or _is_zombie(process_id))

    # Nobody was left to remove what it had on disk; the next worker does, and leaves alone those that live.
    work = tmp_path / "environments" / ".work"
    (left,) = work.glob("process-*/host-*")
    next_worker, another = Workplaces(work), Workplaces(work)
    living = next_worker.make("host-")
    assert not left.parent.exists()
    another.open()
    assert living.is_dir()


def _is_zombie(process_id: int) -> bool:
    # Where nobody reaps orphans, an ended process stays in the table.
    return b") Z " in Path(f"/proc/{process_id}/stat").read_bytes()


def imported() -> set[str]:
    """The modules of packages in this process."""
    return {name for name in sys.modules if name.startswith(ROOT_PREFIX)}


async def test_two_hundred_instances_of_an_organization_share_one_host_and_only_trusted_plugins_run_here(
    tmp_path: Path, store: DirectoryStore
) -> None:
    variables = {**WORKER, "STORAGE_ROOT": str(tmp_path / "store"), "PACKAGE_CACHE": str(tmp_path / "cache")}
    registry = BundleRegistry(read_worker_settings({f"CADENCE_{name}": value for name, value in variables.items()}))
    data, org_id = package(**OPTIONS), new_id()
    plugin = snapshot_of(data, org_id=org_id)
    system = snapshot_of(data)
    for stored in (plugin, system):
        await store.put(stored.package_key, data)

    async def acquire(snapshot: Any) -> Any:
        return await registry.acquire(snapshot, org_id=org_id, instance_id=new_id())

    imported_before = imported()
    shared = await asyncio.gather(*(acquire(plugin) for _ in range(200)))
    assert await adds(shared[0])
    hosts_of_one = registry.hosts.running_count
    untrusted = await acquire(system)
    # An organization's plugin that claims to be trusted is not believed.
    claimed = await acquire(msgspec.structs.replace(plugin, trusted=True, version="2.0.0"))
    imported_after = imported()
    trusted = await acquire(msgspec.structs.replace(system, trusted=True, version="2.0.0"))

    assert (len(set(map(id, shared))), hosts_of_one) == (1, 1)
    # Nothing of theirs was imported in this process, other than of the trusted one.
    assert imported_after == imported_before < imported()
    assert isinstance(trusted, InProcessBundle)
    assert isinstance(untrusted, HostedBundle)
    assert isinstance(claimed, HostedBundle)
    processes = {bundle.process_id for bundle in (shared[0], untrusted, claimed)}
    await registry.close()
    assert all(is_gone(process_id) for process_id in processes if process_id)
