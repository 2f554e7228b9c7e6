"""Environments of dependencies: real uv against indexes and wheels made here."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from shared.errors import DependenciesUnavailable, PackageIndexUnavailable
from shared.packages import uv
from shared.packages.environments import Environments, environment_key
from shared.packages.resolving import resolve
from shared.packages.uv import UvLimits, run_uv
from tests.fakes.wheels import WHEELS, lock_line, wheel_name

OLD, NEW, MOON = WHEELS["tides", "1.0"], WHEELS["tides", "2.0"], WHEELS["moon", "0.5"]


@pytest.fixture
def environments(tmp_path: Path, index: str) -> Environments:
    return Environments(tmp_path / "environments", index_url=index)


async def locked(requires: tuple[str, ...], **options: Any) -> str:
    with tempfile.TemporaryDirectory() as home:
        return await resolve(requires, home=Path(home), **options)


def seen_by_a_plugin(program: str, *places: Path) -> str:
    """What a program prints that runs as a plugin's process does: without site-packages."""
    path = f"import sys; sys.path += {[str(place) for place in places]!r}\n"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", path + program], capture_output=True, text=True, check=False
    )
    return (run.stdout + run.stderr).strip()


async def test_declared_dependencies_become_a_lock_and_the_lock_an_environment(
    environments: Environments, index: str
) -> None:
    lock = await locked(("tides>=1.5", "pydantic>=2", "cadence-sdk"), index_url=index)

    # moon came along with tides; what the platform provides is not locked.
    assert lock == lock_line("moon", "0.5", MOON).replace(" --", " \\\n    --") + lock_line(
        "tides", "2.0", NEW
    ).replace(" --", " \\\n    --")
    home = await environments.ensure(lock)
    program = "import tides, moon; print(tides.VERSION, moon.VERSION)"
    assert seen_by_a_plugin(program, home, await environments.base()) == "2.0 0.5"
    assert await environments.ensure(lock) == home
    assert environments.has(lock)


async def test_incompatible_versions_of_one_package_live_beside_each_other(environments: Environments) -> None:
    homes = [
        await environments.ensure(lock_line("tides", version, content))
        for version, content in (("1.0", OLD), ("2.0", NEW))
    ]

    assert [seen_by_a_plugin("import tides; print(tides.VERSION)", home) for home in homes] == ["1.0", "2.0"]


async def test_an_environment_is_built_once_for_all_who_wait_for_it(
    environments: Environments, tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    async def counted(*arguments: object, **options: object) -> str:
        runs.append("run")
        return await run_uv(*arguments, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr("shared.packages.environments.run_uv", counted)
    lock = lock_line("tides", "1.0", OLD)
    other_process = Environments(tmp_path / "environments", index_url=index)

    homes = await asyncio.gather(*(who.ensure(lock) for who in (environments, other_process) for _ in range(5)))

    assert len(set(homes)) == 1
    assert runs == ["run"]


async def test_an_environment_is_whole_compiled_and_not_to_be_written_to(environments: Environments) -> None:
    home = await environments.ensure(lock_line("tides", "1.0", OLD))

    assert {path.name for path in home.iterdir()} == {"tides.py", "__pycache__", "tides-1.0.dist-info"}
    assert any((home / "__pycache__").iterdir())
    for path in [home, *home.rglob("*")]:
        assert not path.stat().st_mode & 0o222, path


async def test_a_lock_of_nothing_is_an_empty_directory(environments: Environments) -> None:
    assert list((await environments.ensure("")).iterdir()) == []


async def test_the_base_offers_the_sdk_and_nothing_that_is_not_declared(environments: Environments) -> None:
    base = await environments.base()

    assert seen_by_a_plugin("import cadence_sdk, pydantic, packaging, msgspec; print('found')", base) == "found"
    for missing in ("structlog", "litestar", "redis", "shared", "control_plane", "pip"):
        assert "ModuleNotFoundError" in seen_by_a_plugin(f"import {missing}", base)


async def test_nothing_of_the_base_is_compiled_by_those_who_import_it(environments: Environments) -> None:
    base = await environments.base()
    program = "import typing_extensions as t; from pathlib import Path; print(t.__file__, Path(t.__cached__).exists())"

    assert seen_by_a_plugin(program, base) == f"{base}/typing_extensions.py True"
    assert [m.stem for m in base.glob("*.py")] == [c.name.split(".")[0] for c in base.glob("__pycache__/*.pyc")]


async def test_wheels_that_come_with_the_plugin_are_all_that_is_used(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / wheel_name("moon", "0.5")).write_bytes(MOON)
    away = "http://127.0.0.1:1/simple"
    environments = Environments(tmp_path / "environments", index_url=away)

    lock = await locked(("moon",), index_url=away, wheels=wheels)

    assert seen_by_a_plugin("import moon; print('here')", await environments.ensure(lock, wheels=wheels)) == "here"
    with pytest.raises(DependenciesUnavailable, match="tides was not found in the provided package locations"):
        await locked(("tides",), index_url=away, wheels=wheels)


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (("numpie",), "Because numpie was not found in the package registry"),
        (("tides>2",), "Because only tides<=2.0 is available"),
        (("tides<2", "tides>1.5"), "requirements are unsatisfiable"),
    ],
)
async def test_what_cannot_be_resolved_is_told_in_words(requires: tuple[str, ...], reason: str, index: str) -> None:
    with pytest.raises(DependenciesUnavailable) as refusal:
        await locked(requires, index_url=index)

    assert reason in refusal.value.detail
    assert index not in refusal.value.detail


async def test_other_bytes_than_locked_are_not_installed_and_leave_nothing(
    environments: Environments, tmp_path: Path
) -> None:
    lock = lock_line("tides", "1.0", b"other bytes")

    with pytest.raises(DependenciesUnavailable, match=r"Hash mismatch for `tides==1\.0`"):
        await environments.ensure(lock)

    assert not environments.has(lock)
    assert {path.name for path in (tmp_path / "environments").iterdir()} <= {".locks"}


async def test_an_index_that_does_not_answer_is_no_fault_of_the_plugin(tmp_path: Path) -> None:
    away = "http://user:canary@127.0.0.1:1/simple"

    with pytest.raises(PackageIndexUnavailable) as trouble:
        await locked(("tides",), index_url=away)
    with pytest.raises(PackageIndexUnavailable):
        await Environments(tmp_path / "e", index_url=away).ensure(lock_line("tides", "1.0", OLD))

    assert "canary" not in trouble.value.detail


def _instead_of_uv(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "uv"
    program.write_text(f"#!{sys.executable} -I\n{script}")
    program.chmod(0o755)
    monkeypatch.setattr(uv, "_uv", lambda: str(program))


async def test_uv_gets_no_secret_of_ours_and_the_index_out_of_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CADENCE_SECRET_KEY", "canary-42")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    script = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv]))"
    _instead_of_uv(script, tmp_path, monkeypatch)

    said = await run_uv(
        ["pip"], home=tmp_path, index_url="https://u:pw@index.example", offline=False, limits=UvLimits()
    )

    environment, arguments = json.loads(said)
    assert "canary-42" not in said
    assert environment["HTTPS_PROXY"] == "http://proxy.example"
    assert environment["UV_DEFAULT_INDEX"] == "https://u:pw@index.example"
    assert "pw" not in str(arguments)
    assert set(environment) & {"PATH", "PYTHONPATH", "VIRTUAL_ENV"} == set()


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("import threading; threading.Event().wait()", UvLimits(seconds=0.3), "took longer than 0.3 seconds"),
        (
            "import threading; open('big', 'wb').write(bytes(2 * 1024**2)); threading.Event().wait()",
            UvLimits(disk_bytes=1024**2),
            "larger than 1 MiB",
        ),
    ],
)
async def test_fetching_has_a_budget_of_time_and_disk(
    script: str, limits: UvLimits, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _instead_of_uv(f"import os; open('pid', 'w').write(str(os.getpid()))\n{script}", tmp_path, monkeypatch)

    with pytest.raises(DependenciesUnavailable, match=reason):
        await run_uv([], home=tmp_path, index_url=None, offline=False, limits=limits)

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_environment_is_named_by_what_is_in_it() -> None:
    assert environment_key("a==1") != environment_key("a==2")
    assert environment_key("a==1") == environment_key("a==1")
