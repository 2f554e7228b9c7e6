"""What the API makes of uploads: locks that travel to workers, uploads that take long, crashes in the middle."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import func, select

from control_plane.events.tables import OutboxEvent
from control_plane.plugins.pending import PendingUploads
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.tables import OrgPlugin
from control_plane.wiring import Resources
from shared.packages.inspection.preparation import Preparation, PreparedPackage
from shared.snapshots import OrchestratorSnapshot
from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import Tenant, World
from tests.integration.control_plane.workshop import Workshop, add_plugin

WITH_TIDES = {"top": "import tides", "metadata": "dependencies=['tides==1.0']"}


async def upload(tenant: Tenant, data: bytes, status: int = 201) -> Any:
    file = {"file": ("p.zip", data, "application/zip")}
    answer = await tenant.admin.call("POST", f"{tenant.path}/plugins/upload", files=file)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_the_lock_reaches_the_worker_and_is_part_of_what_it_builds(world: World, resources: Resources) -> None:
    workshop = await Workshop.open(world, resources)
    plugin = await upload(workshop.tenant, package(**WITH_TIDES))
    created = await workshop.orchestrator(active_plugin_ids=[plugin["id"]])
    token = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}
    path = f"/internal/snapshots/{created['instance_id']}"

    async def snapshot() -> OrchestratorSnapshot:
        answer = await world._http.get(path, headers=token)
        return msgspec.json.decode(answer.content, type=OrchestratorSnapshot)

    (locked,) = (await snapshot()).plugins
    assert locked.lock.startswith("tides==1.0 \\\n    --hash=sha256:")

    # The same bytes locked to something else are something else to build.
    async with resources.database() as session:
        row = (await session.execute(select(OrgPlugin))).scalar_one()
        row.lock = row.lock.replace("1.0", "1.1")
        await session.commit()
    await workshop.admin.patch(workshop.at(created), {"whoami": "x"})
    changed = (await snapshot()).config_hash
    async with resources.database() as session:
        row = (await session.execute(select(OrgPlugin))).scalar_one()
        row.lock = row.lock.replace("1.1", "1.0")
        await session.commit()
    await workshop.admin.patch(workshop.at(created), {"whoami": "y"})
    await workshop.admin.patch(workshop.at(created), {"whoami": "x"})
    assert (await snapshot()).config_hash != changed


async def test_an_index_that_is_away_is_not_the_authors_fault(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    resources.preparation._index_url = "http://127.0.0.1:1/simple"

    problem = await upload(tenant, package(**WITH_TIDES), 503)

    assert problem["code"] == "PL-0008"


class Slow:
    """A preparation that waits for the test before it is done."""

    def __init__(self, real: Preparation) -> None:
        self._real = real
        self.may_end = asyncio.Event()

    async def prepare(self, data: bytes, *, owner: Hashable = None) -> PreparedPackage:
        prepared = await self._real.prepare(data, owner=owner)
        await self.may_end.wait()
        return prepared


@pytest.fixture
def slow(resources: Resources) -> Slow:
    slow: Any = Slow(resources.preparation)
    resources.uploads = PendingUploads(resources.redis, slow, answer_seconds=0.05)
    found: Slow = slow
    return found


async def until(state: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(20):
        while (found := (await ask()).json())["state"] != state:
            assert found["state"] == "running"
            await asyncio.sleep(0.02)
    return found


async def test_an_upload_that_takes_long_is_answered_and_ends_in_the_catalogue(world: World, slow: Slow) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    pending = await upload(tenant, package(), 202)
    path = f"plugins/uploads/{pending['upload_id']}"

    running = await tenant.admin.get(f"{tenant.path}/{path}")
    listed = await tenant.admin.get(f"{tenant.path}/plugins")
    slow.may_end.set()
    done = await until("done", lambda: tenant.admin.get(f"{tenant.path}/{path}"))

    assert (running.json()["state"], listed.json()["items"]) == ("running", [])
    assert done["plugin"]["pid"] == "com.acme.calc"
    assert (await tenant.admin.get(f"{tenant.path}/plugins/{done['plugin']['id']}")).status_code == 200
    assert (await other.admin.get(f"{other.path}/{path}")).status_code == 404
    assert (await tenant.member.get(f"{tenant.path}/{path}")).status_code == 403


async def test_an_upload_that_is_refused_late_tells_every_reason(
    world: World, slow: Slow, resources: Resources
) -> None:
    tenant = await world.tenant()
    pending = await upload(tenant, package(), 202)

    await add_plugin(resources, "com.acme.calc")
    slow.may_end.set()
    failed = await until("failed", lambda: tenant.admin.get(f"{tenant.path}/plugins/uploads/{pending['upload_id']}"))

    assert (failed["problem"]["code"], failed["problem"]["errors"][0]["code"]) == ("PL-0003", "taken")
    assert failed["plugin"] is None


async def test_an_upload_whose_server_died_is_told_to_be_lost(world: World, slow: Slow, resources: Resources) -> None:
    tenant = await world.tenant()
    pending = await upload(tenant, package(), 202)

    # What a dead process no longer does: keep its uploads alive, and write how they ended.
    await resources.uploads.close()
    await resources.redis.delete(f"upload_alive:{pending['upload_id']}")

    lost = (await tenant.admin.get(f"{tenant.path}/plugins/uploads/{pending['upload_id']}")).json()
    assert lost["state"] == "failed"
    assert "upload the package again" in lost["problem"]["detail"]
    assert (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"] == []


async def test_a_crash_between_bytes_and_row_registers_nothing_and_blocks_nothing(
    world: World, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await world.tenant()

    async def crash(repository: PluginRepository, row: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as crashing:
        crashing.setattr(PluginRepository, "add", crash)
        await upload(tenant, package(), 503)

    assert (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"] == []
    async with resources.database() as session:
        events = (await session.execute(select(func.count()).select_from(OutboxEvent))).scalar_one()
        assert events == 0
    # The bytes that were left do not stand in the way of others for the same version.
    other = package(top="x = 1")
    plugin = await upload(tenant, other)
    key = f"tenants/{UUID(tenant.org_id)}/com.acme.calc/1.0.0/plugin.zip"
    assert await resources.packages.get(key, digest=plugin["digest"]) == other


async def test_the_same_upload_twice_at_once_is_one_row(world: World) -> None:
    tenant = await world.tenant()
    file = {"file": ("p.zip", package(), "application/zip")}

    answers = await asyncio.gather(
        *(tenant.admin.call("POST", f"{tenant.path}/plugins/upload", files=file) for _ in range(3))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
