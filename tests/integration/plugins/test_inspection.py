"""Packages run once in a process that is thrown away, whatever they do there."""

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.errors import RateLimited
from shared.packages import digest_of
from shared.packages.archive import read_package
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import MAX_WAITING_OF_ONE, Inspector
from shared.packages.inspection.report import Report
from shared.security.confinement import Limits
from tests.fakes.plugin_packages import package, plugin_source, zipped

LIMITS = Limits(cpu_seconds=1)
_HOME = tempfile.TemporaryDirectory(prefix="cadence-test-environments-")
ENVIRONMENTS = Environments(Path(_HOME.name))
ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the walls around an inspection are Linux's")


async def inspect(data: bytes, *, wall_seconds: float = 20.0, limits: Limits = LIMITS) -> Report:
    inspector = Inspector(ENVIRONMENTS, limits=limits, wall_seconds=wall_seconds)
    return await inspector.inspect(read_package(data), digest_of(data))


async def findings(data: bytes, **options: Any) -> str:
    report = await inspect(data, **options)
    assert report.findings
    return "\n".join(finding.message for finding in report.findings)


async def test_a_good_package_comes_back_as_a_manifest() -> None:
    source = plugin_source(
        version="1.2.0",
        base="BaseSpecializedAgent, BaseScopedAgent",
        agent="""
            def get_system_prompt(self): return "You calculate."
            async def load_anchor(self, resource_id): return {}
            def build_scope_rules(self, context): return ""
        """,
        metadata="capabilities=['sum'], dependencies=['cadence_sdk>=2.0.0,<3.0.0', 'pydantic'], stateless=False",
        settings=[
            {"key": "units", "type": "str", "description": "Units", "default": "m"},
            {"key": "token", "type": "str", "description": "Token", "sensitive": True, "default": "s3cret"},
        ],
        top="import json\nimport tides\nfrom .tides import HIGH",
    )

    report = await inspect(zipped({"calc/plugin.py": source, "calc/tides.py": "HIGH = 1"}))

    assert report.findings == ()
    manifest = report.manifest
    assert manifest is not None
    assert (manifest.pid, manifest.version, manifest.name) == ("com.acme.calc", "1.2.0", "Calc")
    assert (manifest.is_specialized, manifest.is_scoped, manifest.stateless) == (True, True, False)
    assert manifest.requires == ("cadence_sdk>=2.0.0,<3.0.0", "pydantic")
    assert manifest.system_prompt == "You calculate."
    assert [(tool.name, tool.description, tool.schema["required"]) for tool in manifest.tools] == [
        ("add", "Add two numbers.", ["a", "b"])
    ]
    # A sensitive default travels beside the manifest, never in it.
    assert report.defaults == {"units": "m", "token": "s3cret"}
    assert "s3cret" not in str(manifest)


async def test_tools_that_need_settings_nobody_has_yet_are_no_fault() -> None:
    source = plugin_source(
        settings=[{"key": "url", "type": "str", "description": "d", "required": True}],
        agent="""
            def initialize(self, config):
                if not config["url"]: raise ValueError("no url")
                self.tools = [add]
        """,
        tool_names="*self.tools",
    )

    report = await inspect(package(source))

    assert report.findings == ()
    assert report.manifest is not None
    assert report.manifest.tools == ()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def", "plugin.py, line 1: invalid syntax"),
        ("\n\nraise ValueError('boom')", "importing plugin.py raised ValueError: boom (plugin.py, line 3)"),
        ("import sys; sys.exit(3)", "ends the process (sys.exit)"),
        ("import os; print('bye'); os._exit(0)", "ended the process (exit code 0)"),
        ("x = 1", "no concrete subclass of cadence_sdk.BasePlugin"),
        ("while True: print('x' * 1000)", "printed more than 64 KiB"),
        ("while True: pass", "importing plugin.py used more than 1 seconds of CPU time"),
        (b"# \xff\xfe", "plugin.py: invalid or missing encoding declaration"),
        (plugin_source(tool_names="add, 3"), "get_tools() item 1 must be a UvTool"),
        (plugin_source(agent="def initialize(self, config): raise KeyError('k')"), "initializing its agent raised"),
        (plugin_source(metadata="sdk_version='>=3'"), "does not satisfy >=3"),
        (plugin_source(version="one.two"), "'one.two' is not a valid version"),
    ],
)
async def test_a_bad_plugin_is_refused_in_an_authors_words(source: str | bytes, reason: str) -> None:
    assert reason in await findings(zipped({"plugin.py": source}))


async def test_all_findings_come_at_once() -> None:
    source = plugin_source(
        tool_names="add, add, 3",
        agent="def initialize(self, config): raise KeyError('k')",
    )

    text = await findings(package(source))

    for part in ("KeyError", "two tools are called 'add'", "must be a UvTool"):
        assert part in text


async def test_a_plugin_that_waits_forever_is_ended() -> None:
    text = await findings(package("import threading; threading.Event().wait()"), wall_seconds=2.0)

    assert text == "importing plugin.py did not finish within 2 seconds"


@pytest.mark.parametrize(
    "writing", ["open(f'f{n}', 'wb').write(bytes(8 * 1024**2))", "open(f'f{n}', 'wb')", "os.mkdir(f'd{n}')"]
)
async def test_a_plugin_does_not_fill_the_disk(writing: str) -> None:
    source = f"import os\nfor n in range(3000): {writing}\nimport time; time.sleep(60)"

    # Making files takes CPU time, on a busy machine more of it, and it is not what is to end this one.
    text = await findings(package(source), limits=Limits(cpu_seconds=15))

    assert "wrote more than 64 MiB or 1000 files" in text


async def test_one_organizations_uploads_leave_room_for_the_others() -> None:
    inspector = Inspector(ENVIRONMENTS)
    with ExitStack() as waiting:
        for _ in range(MAX_WAITING_OF_ONE):
            waiting.enter_context(inspector.admission("acme"))
        with pytest.raises(RateLimited), inspector.admission("acme"):
            pass
        with inspector.admission("other"):
            pass
    with inspector.admission("acme"):
        pass


async def test_what_a_plugin_prints_never_mixes_with_its_report() -> None:
    forged = '{"type":"report","manifest":null}'
    source = plugin_source(top=f"import os, sys\nprint({forged!r})\nos.write(1, {forged.encode()!r})")

    report = await inspect(package(source))

    assert report.manifest is not None


@ONLY_LINUX
async def test_an_inspected_plugin_reaches_nothing_outside_its_directory() -> None:
    attempts = (
        "os.fork()",
        "subprocess.run(['true'])",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "os.kill(os.getppid(), 0)",
        "os.sched_setaffinity(os.getppid(), {0})",
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
        "open(f'/proc/{os.getppid()}/environ')",
        "open('/proc/self/environ')",
        "open('/etc/passwd')",
        f"open({str(Path(__file__).parents[3] / 'pyproject.toml')!r})",
        f"open({str(Path(tempfile.gettempdir()) / 'planted')!r}, 'w')",
        "open(__file__, 'a')",
        "os.symlink('/etc', os.path.join(os.path.dirname(__file__), 'etc'))",
    )
    source = f"""
import os, resource, socket, subprocess
succeeded = []
for attempt in {attempts!r}:
    try:
        exec(attempt)
    except PermissionError:
        continue
    succeeded.append(attempt)
raise LookupError(f"succeeded: {{succeeded}}")
"""

    assert "succeeded: []" in await findings(package(source))


@ONLY_LINUX
async def test_an_inspected_plugin_cannot_touch_a_file_whose_path_it_knows(tmp_path: Path) -> None:
    # Landlock guards what is in a file; who may read it, when it changed and its attributes are not its business.
    theirs = tmp_path / "secrets.json"
    theirs.write_text("theirs")
    theirs.chmod(0o600)
    before = theirs.stat()
    path = str(theirs)
    attempts = (
        f"os.chmod({path!r}, 0o777)",
        f"os.chmod({str(tmp_path)!r}, 0o000)",
        f"os.chmod('secrets.json', 0o777, dir_fd=os.open({str(tmp_path)!r}, os.O_PATH))",
        f"os.chown({path!r}, 0, 0)",
        f"os.lchown({path!r}, 0, 0)",
        f"os.utime({path!r}, (0, 0))",
        f"os.truncate({path!r}, 0)",
        f"os.setxattr({path!r}, 'user.mark', b'x')",
        f"os.removexattr({path!r}, 'user.mark')",
    )
    source = f"""
import os
succeeded = []
for attempt in {attempts!r}:
    try:
        exec(attempt)
    except PermissionError:
        continue
    except OSError as error:
        attempt += f" {{error}}"
    succeeded.append(attempt)
raise LookupError(f"succeeded: {{succeeded}}")
"""

    assert "succeeded: []" in await findings(package(source))
    assert theirs.stat() == before


@pytest.mark.parametrize("line", ["[" * 200_000, '{"type":"report","defaults":{"a":' + "[" * 200_000])
async def test_a_plugin_that_writes_into_the_report_is_only_refused(line: str) -> None:
    source = f"""
import os
for descriptor in range(3, 32):
    try:
        os.write(descriptor, {line.encode()!r} + b"\\n")
    except OSError:
        pass
os._exit(0)
"""

    assert "ended the process" in await findings(package(source))


@ONLY_LINUX
async def test_a_plugin_that_tries_to_reach_out_is_told_that_it_may_not() -> None:
    assert "a plugin may not do while it is inspected" in await findings(package("import os\nos.fork()"))


@ONLY_LINUX
async def test_memory_is_limited() -> None:
    assert "needs more than 2048 MiB of memory" in await findings(package("x = bytearray(3 * 1024**3)"))


async def test_a_plugin_sees_no_environment_and_may_use_its_own_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADENCE_SECRET_KEY", "canary-42")
    source = plugin_source(
        top="""
            import asyncio, os, tempfile, threading
            assert "canary-42" not in str(os.environ), "environment"
            with tempfile.TemporaryFile() as f: f.write(b"x")
            threading.Thread(target=print).start()
            asyncio.run(asyncio.sleep(0))
        """
    )

    assert (await inspect(package(source))).findings == ()


@ONLY_LINUX
async def test_a_kernel_with_all_walls_satisfies_a_server_that_needs_them() -> None:
    data = package()

    report = await Inspector(ENVIRONMENTS, needs_walls=True).inspect(read_package(data), digest_of(data))

    assert report.findings == ()


async def test_nothing_is_left_of_an_inspection() -> None:
    inspection = asyncio.create_task(inspect(package("import threading; threading.Event().wait()")))
    async with asyncio.timeout(10):
        while not _inspectors():
            await asyncio.sleep(0.01)
    workplaces = ENVIRONMENTS.workplaces.open()
    assert len(list(workplaces.iterdir())) == 1

    inspection.cancel()
    await asyncio.wait({inspection})

    assert inspection.cancelled()
    assert not _inspectors()
    assert list(workplaces.iterdir()) == []


async def test_plugin_code_is_never_imported_in_this_process() -> None:
    before = set(sys.modules)

    await inspect(package())

    assert not any("plugin" in name and name.startswith("_cadence") for name in set(sys.modules) - before)


def _inspectors() -> list[int]:
    """Inspecting processes that this one started."""
    children = psutil.Process(os.getpid()).children()
    return [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE and _is_inspector(child)]


def _is_inspector(process: psutil.Process) -> bool:
    try:
        return any("shared.packages.inspection.child" in part for part in process.cmdline())
    except psutil.Error:
        return False
