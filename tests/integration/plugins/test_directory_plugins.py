"""Plugins on the server's own disk, registered when the control plane starts."""

from pathlib import Path
from uuid import UUID

import pytest

from control_plane.plugins.directories import DirectoryPlugins, found, packed
from control_plane.wiring import Resources
from control_plane.wiring.plugins import directory_plugins
from shared.errors import PluginRefused
from shared.settings import DirectoryPluginSettings
from tests.fakes.plugin_packages import plugin_source
from tests.integration.control_plane.callers import Caller, World


def lay(root: Path, pid: str, version: str = "1.0.0", source: str | None = None) -> Path:
    folder = root / pid / version
    folder.mkdir(parents=True)
    (folder / "plugin.py").write_text(source or plugin_source(pid=pid, version=version, top="from . import beside"))
    (folder / "beside.py").write_text("")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    return folder


@pytest.fixture
def directories(tmp_path: Path) -> DirectoryPluginSettings:
    return DirectoryPluginSettings(tmp_path / "disk" / "system", tmp_path / "disk" / "tenants")


@pytest.fixture
def plugins(resources: Resources, directories: DirectoryPluginSettings) -> DirectoryPlugins:
    return directory_plugins(resources, directories)


async def test_plugins_of_directories_are_in_the_catalogues_and_bad_ones_stop_no_other(
    world: World, root: Caller, plugins: DirectoryPlugins, tmp_path: Path
) -> None:
    tenant = await world.tenant()
    lay(tmp_path / "disk" / "system", "com.sys.aaa", source="import sys; sys.exit()")
    lay(tmp_path / "disk" / "system", "com.sys.bbb", source=plugin_source(pid="com.sys.other"))
    lay(tmp_path / "disk" / "system", "com.sys.time")
    lay(tmp_path / "disk" / "system", "com.sys.time", "1.10.0")
    lay(tmp_path / "disk" / "tenants" / tenant.org_id, "com.acme.calc")
    lay(tmp_path / "disk" / "tenants" / tenant.org_id, "com.sys.time")
    lay(tmp_path / "disk" / "tenants" / str(UUID(int=7)), "com.acme.nobody")
    lay(tmp_path / "disk" / "tenants" / "not-an-id", "com.acme.lost")

    await plugins.run()

    listed = (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"]
    assert {(row["pid"], row["version"], row["source"], row["is_latest"]) for row in listed} == {
        ("com.sys.time", "1.0.0", "system", False),
        ("com.sys.time", "1.10.0", "system", True),
        ("com.acme.calc", "1.0.0", "org", True),
    }
    assert all(row["created_by"] is None and not row["trusted"] for row in listed)


async def test_starting_again_changes_nothing_and_inspects_nothing(
    root: Caller, resources: Resources, plugins: DirectoryPlugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(tmp_path / "disk" / "system", "com.sys.time")
    await plugins.run()
    before = (await root.get("/api/admin/plugins")).json()

    async def unexpected(data: bytes) -> None:
        raise AssertionError("inspected again")

    with monkeypatch.context() as known:
        known.setattr(resources.preparation, "prepare", unexpected)
        await plugins.run()
    assert (await root.get("/api/admin/plugins")).json() == before

    # Other content under a version that exists is refused like any upload of it.
    (folder / "beside.py").write_text("x = 1")
    await plugins.run()
    assert (await root.get("/api/admin/plugins")).json() == before


def test_what_is_packed_depends_on_the_files_alone(tmp_path: Path) -> None:
    one, two = lay(tmp_path / "one", "com.sys.time"), lay(tmp_path / "two", "com.sys.time")
    (two / ".git").mkdir()
    (two / ".git" / "config").write_text("x")
    (two / "link.py").symlink_to("/etc/passwd")

    assert packed(one) == packed(two)
    (two / "data.bin").write_bytes(bytes(6 * 1024**2))
    with pytest.raises(PluginRefused):
        packed(two)


def test_directories_that_are_not_there_hold_nothing(directories: DirectoryPluginSettings) -> None:
    assert list(found(directories)) == []
