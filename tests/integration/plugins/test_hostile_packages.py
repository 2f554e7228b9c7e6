"""Every hostile package there is, uploaded through the API: refused in words, and nothing is left of it."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from control_plane.plugins.pending import PendingUploads
from control_plane.wiring import Resources
from shared.packages.environments import Environments
from shared.packages.inspection.inspector import Inspector
from shared.packages.inspection.preparation import Preparation
from shared.packages.uv import UvLimits
from shared.security.confinement import Limits
from tests.fakes.hostile_packages import Attack, attacks, harmless
from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import Caller, Tenant, World

UPLOADS_AT_ONCE = 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the walls around an inspection are Linux's")


@pytest.fixture
def small_budgets(resources: Resources, index: str) -> None:
    """So that what has to run into a limit does so soon."""
    environments = Environments(
        resources.settings.package_cache / "environments", index_url=index, limits=UvLimits(disk_bytes=32 * 1024**2)
    )
    inspector = Inspector(environments, limits=Limits(cpu_seconds=2), wall_seconds=10.0)
    preparation = Preparation(inspector, environments, index_url=index)
    resources.uploads = PendingUploads(resources.redis, preparation, resources.uploads._register, answer_seconds=60)


async def upload(caller: Caller, path: str, data: bytes) -> tuple[int, str]:
    answer = await caller.call("POST", f"{path}/upload", files={"file": ("p.zip", data, "application/zip")})
    return answer.status_code, answer.text


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process makes its temporary files, with nobody else's."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def children() -> set[int]:
    return {child.pid for child in psutil.Process(os.getpid()).children(recursive=True)}


@pytest.mark.timeout(180)
async def test_every_hostile_package_is_refused_in_words_and_leaves_nothing(
    world: World,
    root: Caller,
    resources: Resources,
    small_budgets: None,
    temporary: Path,
    record_property: Callable[[str, object], None],
) -> None:
    org_id = await world.organization(domain="acme.com")
    tenant = Tenant(org_id, await world.member(org_id, is_admin=True), await world.member(org_id))
    plugins = f"{tenant.path}/plugins"
    assert (await upload(root, "/api/admin/plugins", package(pid="com.system.time")))[0] == 201
    table = list(attacks())
    assert len({attack.name for attack in table}) == len(table) >= 30
    processes = children()
    slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
    wrong: list[str] = []

    async def attempt(attack: Attack) -> None:
        async with slots:
            status, text = await upload(tenant.admin, plugins, attack.data)
        if status != 422 or '"PL-0003"' not in text or attack.reason not in text:
            wrong.append(f"{attack.name}: {status} {text[:400]}")

    health = asyncio.create_task(latencies(tenant.admin))
    await asyncio.gather(*map(attempt, table))
    health.cancel()
    answered = sorted(await health)

    assert not wrong, "\n".join(sorted(wrong))
    record_property("health_p99_ms", round(answered[int(len(answered) * 0.99)] * 1000, 1))
    listed = (await tenant.admin.get(plugins)).json()["items"]
    assert [row["source"] for row in listed] == ["system"]
    storage = resources.settings.packages.storage_root
    assert storage is not None
    assert [path.parts[-3] for path in storage.rglob("plugin.zip")] == ["com.system.time"]
    assert not list(storage.rglob(".build-*"))
    assert list(temporary.iterdir()) == []
    assert not Path("/tmp/planted").exists()
    assert children() <= processes


async def test_what_a_plugin_does_to_its_own_process_changes_nothing_for_the_next(
    world: World, small_budgets: None
) -> None:
    tenant = await world.tenant()
    plugins = f"{tenant.path}/plugins"

    for attack in harmless():
        status, text = await upload(tenant.admin, plugins, attack.data)
        assert status in (201, 422), (attack.name, text)
        for row in (await tenant.admin.get(plugins)).json()["items"]:
            assert (await tenant.admin.delete(f"{plugins}/{row['id']}")).status_code == 204

    assert (await upload(tenant.admin, plugins, package()))[0] == 201


async def latencies(caller: Caller) -> list[float]:
    """Seconds that `/health` took, asked again and again until this is cancelled."""
    seconds: list[float] = []
    try:
        while True:
            before = time.perf_counter()
            assert (await caller.http.get("/health")).status_code == 200
            seconds.append(time.perf_counter() - before)
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        return seconds
