"""Tools in a host answer as they would in the worker: the same arguments, results, filters, deadlines and texts."""

import asyncio
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from runtime_worker.plugins.base import Anchor, ToolOutcome
from runtime_worker.plugins.hosted import HostedBundle
from runtime_worker.plugins.in_process import InProcessLoader
from runtime_worker.plugins.packages import PackageCache
from shared.errors import PluginLoadFailed, ToolFailed
from shared.ids import new_id
from shared.packages.directory import DirectoryStore
from shared.packages.environments import Environments
from shared.plugin_host.results import MAX_RESULT_CHARS
from tests.fakes.plugin_packages import package, snapshot_of
from tests.integration.plugin_hosts.conftest import LoadHosted, MakeHosts

SECRET = "canary-0815"
TOOLS = f"""
import asyncio, logging, sys, threading
from pydantic import BaseModel

class Place(BaseModel):
    city: str

let_go = threading.Event()

@uvtool
def add(a: int, b: int = 1) -> int:
    '''Add two numbers.'''
    return a + b

@uvtool
async def fetch(place: Place) -> dict:
    return {{"city": place.city, "place": place, 1: {{2}}}}

@uvtool
def raises() -> str:
    raise ValueError("{SECRET}")

@uvtool
async def exits() -> str:
    sys.exit(1)

@uvtool
def hangs() -> str:
    let_go.wait()
    return "late"

@uvtool
async def waits() -> str:
    try:
        await asyncio.Event().wait()
    finally:
        let_go.set()

@uvtool
def much(n: int) -> str:
    return "x" * n

@uvtool
def nested(n: int) -> list:
    value = []
    for _ in range(n):
        value = [value]
    return value

@uvtool(stream=True, stream_filter=lambda result: [item["url"] for item in result])
def search() -> list:
    return [{{"url": "u", "score": 1}}]

@uvtool
def modules() -> list:
    return sorted(name.partition(".")[0] for name in sys.modules)

@uvtool
def surrogate() -> str:
    return chr(0xd800)
"""
NAMES = "add, fetch, raises, exits, hangs, waits, much, nested, search, modules, surrogate"


@pytest.fixture
async def bundle(load: LoadHosted) -> HostedBundle:
    return await load(tools=TOOLS, tool_names=NAMES)


async def call(bundle: HostedBundle, tool: str, timeout_seconds: float = 10.0, **arguments: Any) -> ToolOutcome:
    return await bundle.call(tool, arguments, timeout_seconds=timeout_seconds)


async def test_tools_are_described_and_answer_as_in_process(
    bundle: HostedBundle, store: DirectoryStore, tmp_path: Path
) -> None:
    data = package(tools=TOOLS, tool_names=NAMES)
    plugin = snapshot_of(data)
    await store.put(plugin.package_key, data)
    loader = InProcessLoader(PackageCache(store, tmp_path / "other-cache"))
    local = await loader.load(plugin, org_id=new_id(), instance_id=new_id())
    calls: list[tuple[str, dict[str, Any]]] = [
        ("add", {"a": 2}),
        ("add", {"a": "x", "c": 1}),
        ("fetch", {"place": {"city": "Bonn"}}),
        ("raises", {}),
        ("exits", {}),
        ("search", {}),
        ("much", {"n": MAX_RESULT_CHARS + 1}),
        ("nested", {"n": 80}),
        ("no_such_tool", {}),
    ]

    assert bundle.tools == local.tools
    for tool, arguments in calls:
        assert await call(bundle, tool, **arguments) == await call_of(local, tool, arguments)
    await local.close()


async def call_of(bundle: Any, tool: str, arguments: dict[str, Any]) -> ToolOutcome:
    outcome: ToolOutcome = await bundle.call(tool, arguments, timeout_seconds=10)
    return outcome


async def test_what_a_tool_raises_is_logged_by_type_and_place_and_told_to_nobody(bundle: HostedBundle) -> None:
    with structlog.testing.capture_logs() as logs:
        outcome = await call(bundle, "raises")
        await bundle.close()

    (entry,) = [entry for entry in logs if entry["event"] == "tool_failed"]
    assert (outcome.content, outcome.is_error) == ("The tool raises failed.", True)
    assert (entry["pid"], entry["tool"], entry["error"]) == ("com.acme.calc", "raises", "ValueError")
    assert "plugin.py" in entry["place"]
    assert SECRET not in f"{outcome}{logs}"


async def test_a_result_that_is_no_text_is_an_error_and_the_host_goes_on(bundle: HostedBundle) -> None:
    before = bundle.process_id

    assert (await call(bundle, "surrogate")).is_error
    assert (await call(bundle, "add", a=1)).content == "2"
    assert bundle.process_id == before


async def test_calls_run_beside_one_another(bundle: HostedBundle) -> None:
    hanging = asyncio.create_task(call(bundle, "hangs"))
    cancelled = asyncio.create_task(call(bundle, "waits"))

    answers = await asyncio.gather(*(call(bundle, "add", a=n) for n in range(30)))
    cancelled.cancel()

    assert [answer.shown for answer in answers] == list(range(1, 31))
    # Its `finally` lets the other go, so the cancellation has reached it.
    assert (await hanging).content == "late"


async def test_a_call_that_does_not_stop_costs_its_host_and_no_other_call(bundle: HostedBundle) -> None:
    before = bundle.process_id
    # Longer than it takes until the next host is there, also on a busy machine: two seconds and its start.
    waiting = asyncio.create_task(call(bundle, "waits", timeout_seconds=8))
    started = time.monotonic()

    late = await call(bundle, "hangs", timeout_seconds=0.1)
    took = time.monotonic() - started
    async with asyncio.timeout(20):
        while bundle.process_id == before:
            assert not waiting.done()
            assert (await call(bundle, "add", a=1)).content == "2"
            await asyncio.sleep(0.05)

    assert (late.content, late.is_error) == ("The tool hangs did not answer within 0.1 seconds.", True)
    assert took < 5
    assert not waiting.done()
    assert "did not answer within 8" in (await waiting).content
    await _until_gone(before)


async def test_the_host_knows_nothing_of_the_platform(bundle: HostedBundle) -> None:
    found = (await call(bundle, "modules")).shown

    assert "cadence_sdk" in found
    assert not {"shared", "runtime_worker", "redis", "structlog", "litestar", "site"} & set(found)


async def test_settings_reach_the_agent_and_nobody_who_looks_at_the_process(load: LoadHosted) -> None:
    agent = "def initialize(self, config):\n    global settings\n    settings = config"
    tool = "@uvtool\ndef get() -> dict:\n    return settings"

    bundle = await load(tools=tool, tool_names="get", agent=agent, settings={"token": SECRET})

    assert (await call(bundle, "get")).shown == {"token": SECRET}
    for file in ("cmdline", "environ"):
        # Only root may read the second one, which is the point.
        with suppress(PermissionError):
            assert SECRET.encode() not in Path(f"/proc/{bundle.process_id}/{file}").read_bytes()


async def test_a_scoped_and_specialized_agent_tells_its_prompt_anchors_and_rules(load: LoadHosted) -> None:
    agent = """
    def get_system_prompt(self):
        return "You know invoices."
    async def load_anchor(self, resource_id):
        if resource_id == "bad":
            raise KeyError(resource_id)
        return {"id": resource_id} if resource_id.startswith("i-") else {}
    def build_scope_rules(self, context):
        return f"Only i-{int(context['id'][2:])}."
    """
    bundle = await load(base="BaseSpecializedAgent, BaseScopedAgent", agent=agent)

    assert (bundle.system_prompt, bundle.is_scoped) == ("You know invoices.", True)
    ask = partial(bundle.load_anchor, timeout_seconds=10)
    assert await ask("i-1", with_rules=False) == Anchor({"id": "i-1"}, "")
    assert await ask("i-1", with_rules=True) == Anchor({"id": "i-1"}, "Only i-1.")
    assert await ask("unknown", with_rules=True) == Anchor({}, "")
    assert await bundle.build_scope_rules({"id": "i-2"}, timeout_seconds=10) == "Only i-2."
    with pytest.raises(ToolFailed, match="could not be loaded"):
        await ask("bad", with_rules=True)
    with pytest.raises(ToolFailed, match="rules could not be built"):
        await ask("i-x", with_rules=True)


async def test_a_resource_is_loaded_whole_however_large_the_results_of_tools_may_be(load: LoadHosted) -> None:
    agent = f"""
    async def load_anchor(self, resource_id):
        return {{"id": resource_id, "text": "x" * {2 * MAX_RESULT_CHARS}}}
    def build_scope_rules(self, context):
        return "y" * {2 * MAX_RESULT_CHARS}
    """
    bundle = await load(base="BaseScopedAgent", agent=agent)

    loaded = await bundle.load_anchor("i-1", with_rules=True, timeout_seconds=10)

    assert loaded.context == {"id": "i-1", "text": "x" * (2 * MAX_RESULT_CHARS)}
    assert len(loaded.rules) < 1.1 * MAX_RESULT_CHARS


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"top": f"raise ValueError('{SECRET}')"}, "com.acme.calc@1.0.0 could not be started: it raised ValueError"),
        ({"top": "import sys; sys.exit(3)"}, "it raised SystemExit"),
        ({"top": "import os; os._exit(3)"}, "could not be started: it ended by itself"),
        ({"top": "import redis"}, "it raised ModuleNotFoundError"),
        ({"source": "x = 1"}, "has no plugin class"),
    ],
)
async def test_a_plugin_that_does_not_start_says_so(
    load: LoadHosted, make_hosts: MakeHosts, options: dict[str, Any], reason: str
) -> None:
    hosts = make_hosts()
    with pytest.raises(PluginLoadFailed, match=reason) as failure:
        await load(hosts=hosts, **options)

    assert SECRET not in failure.value.detail
    assert hosts.running_count == 0


async def test_the_same_pid_of_two_tenants_and_two_versions_live_apart(load: LoadHosted, make_hosts: MakeHosts) -> None:
    hosts = make_hosts()

    def who(name: str) -> dict[str, Any]:
        return {"hosts": hosts, "tools": f"@uvtool\ndef who() -> str:\n    return {name!r}", "tool_names": "who"}

    bundles = [
        await load(**who("a, version 1")),
        await load(**who("a, version 2"), version="2.0.0"),
        await load(**who("b, version 1")),
    ]

    assert [(await call(b, "who")).content for b in bundles] == ["a, version 1", "a, version 2", "b, version 1"]
    assert len({b.process_id for b in bundles}) == hosts.running_count == 3


class PreparedEnvironments(Environments):
    """Environments that are there already, by their lock."""

    def __init__(self, root: Path, ready: dict[str, Path]) -> None:
        super().__init__(root)
        self._ready = ready

    async def ensure(self, lock: str, *, wheels: Path | None = None) -> Path:
        return self._ready[lock]


async def test_each_plugin_sees_its_own_dependencies_and_their_names_win_over_ours(
    make_hosts: MakeHosts, store: DirectoryStore, tmp_path: Path
) -> None:
    ready: dict[str, Path] = {}
    for version in ("1", "2"):
        folder = ready[version] = tmp_path / f"environment-{version}"
        folder.mkdir()
        for name in ("dependency", "shared", "cadence_sdk"):
            (folder / f"{name}.py").write_text(f"VERSION = {version!r}")
    hosts = make_hosts(environments=PreparedEnvironments(tmp_path / "environments", ready))
    tool = "@uvtool\ndef v() -> str:\n    import dependency, shared\n    return dependency.VERSION + shared.VERSION"
    data = package(tools=tool, tool_names="v")

    versions = []
    for lock in ready:
        plugin = msgspec.structs.replace(snapshot_of(data, org_id=new_id()), lock=lock)
        await store.put(plugin.package_key, data)
        versions.append((await call(await hosts.load(plugin, org_id=new_id(), instance_id=new_id()), "v")).content)

    assert versions == ["11", "22"]


async def _until_gone(process_id: int | None) -> None:
    async with asyncio.timeout(10):
        while Path(f"/proc/{process_id}").exists():
            await asyncio.sleep(0.02)
