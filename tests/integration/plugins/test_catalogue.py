"""Upload, catalogue and deletion through the API, as admins of two organizations and of the system."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.orchestrators.tables import Orchestrator, OrchestratorPlugin
from control_plane.plugins.tables import OrgPlugin
from control_plane.wiring import Resources
from control_plane.wiring.plugins import provide_plugins
from shared.errors import InvalidRequest, PluginLoadFailed, StoreUnavailable
from shared.events import PluginChanged, decode_event
from shared.ids import new_id, parse_id
from shared.packages import digest_of, package_key
from shared.packages.archive import MAX_PACKAGE_BYTES
from tests.fakes.plugin_packages import package, zipped
from tests.integration.control_plane.callers import Caller, Tenant, World

SECRET = "canary-2342"
ADMIN = "/api/admin/plugins"


async def upload(caller: Caller, path: str, data: bytes, status: int = 201, **form: str) -> Any:
    answer = await caller.call("POST", f"{path}/upload", files={"file": ("p.zip", data, "application/zip")}, data=form)
    assert answer.status_code == status, answer.text
    return answer.json()


def plugins_of(tenant: Tenant) -> str:
    return f"{tenant.path}/plugins"


async def uploaded(tenant: Tenant, **options: Any) -> Any:
    return await upload(tenant.admin, plugins_of(tenant), package(**options))


def codes(problem: Any) -> set[tuple[str, str]]:
    return {(error["field"], error["code"]) for error in problem["errors"]}


async def test_an_uploaded_plugin_is_in_the_catalogue_with_all_that_inspection_found(world: World) -> None:
    tenant = await world.tenant()
    settings = [
        {"key": "units", "type": "str", "description": "Units", "default": "m"},
        {"key": "token", "type": "str", "description": "Token", "sensitive": True, "default": SECRET},
    ]
    data = package(settings=settings, metadata="capabilities=['sum'], stateless=False")

    plugin = await upload(tenant.admin, plugins_of(tenant), data, tag="maths")

    shown = await tenant.admin.get(f"{plugins_of(tenant)}/{plugin['id']}")
    assert shown.json() == plugin
    assert SECRET not in shown.text
    expected = {
        "pid": "com.acme.calc",
        "version": "1.0.0",
        "name": "Calc",
        "tag": "maths",
        "source": "org",
        "is_latest": True,
        "enabled": True,
        "capabilities": ["sum"],
        "stateless": False,
        "default_settings": {"units": "m", "token": "***"},
        "digest": digest_of(data),
        "size_bytes": len(data),
        "created_by": str(tenant.admin.user_id),
    }
    assert {name: plugin[name] for name in expected} == expected
    assert [tool["name"] for tool in plugin["tools"]] == ["add"]
    schema = (await tenant.admin.get(f"{plugins_of(tenant)}/{plugin['id']}/settings-schema")).json()
    assert schema["key"] == "org:com.acme.calc@1.0.0"
    assert [(s["key"], s["default"]) for s in schema["settings"]] == [("units", "m"), ("token", "***")]


async def test_bytes_are_stored_secrets_sealed_and_workers_told(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    data = package(settings=[{"key": "t", "type": "str", "description": "d", "sensitive": True, "default": SECRET}])

    plugin = await upload(tenant.admin, plugins_of(tenant), data)

    org_id = parse_id(tenant.org_id)
    key = package_key(org_id, "com.acme.calc", "1.0.0")
    assert await resources.packages.get(key, digest=plugin["digest"]) == data
    async with resources.database() as session:
        row = (await session.execute(select(OrgPlugin))).scalar_one()
        payloads = (await session.execute(select(OutboxEvent.payload))).scalars().all()
    assert SECRET not in f"{row.manifest}{row.default_settings}"
    (event,) = (event for event in map(decode_event, payloads) if isinstance(event, PluginChanged))
    assert (event.source, event.org_id, event.pid, event.version) == ("org", org_id, "com.acme.calc", "1.0.0")
    assert (event.digest, event.revision) == (plugin["digest"], row.revision)


async def test_the_same_bytes_again_are_the_same_row_and_other_bytes_a_conflict(world: World) -> None:
    tenant = await world.tenant()
    first = await uploaded(tenant)

    again = await upload(tenant.admin, plugins_of(tenant), package(), 200)
    other = await upload(tenant.admin, plugins_of(tenant), package(top="x = 1"), 409)
    equal = await upload(tenant.admin, plugins_of(tenant), package(version="1.0"), 409)

    assert again["id"] == first["id"]
    assert (other["code"], equal["code"]) == ("PL-0002", "PL-0002")
    assert "com.acme.calc@1.0.0" in equal["detail"]


async def test_the_latest_is_the_highest_version_and_not_the_last_upload(world: World) -> None:
    tenant = await world.tenant()
    ids = {version: (await uploaded(tenant, version=version))["id"] for version in ("1.10.0", "1.9.0", "1.2.0")}

    async def latest() -> list[tuple[str, bool]]:
        rows = (await tenant.admin.get(f"{plugins_of(tenant)}/com.acme.calc/versions")).json()["items"]
        return [(row["version"], row["is_latest"]) for row in rows]

    assert await latest() == [("1.10.0", True), ("1.9.0", False), ("1.2.0", False)]
    assert (await tenant.admin.delete(f"{plugins_of(tenant)}/{ids['1.10.0']}")).status_code == 204
    assert await latest() == [("1.9.0", True), ("1.2.0", False)]


async def test_a_refusal_tells_every_reason_and_leaves_nothing(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    source = "import sys; sys.exit(1)"

    for data, found in (
        (zipped({"plugin.py": "", "../evil": "", "b.pth": ""}), {("file", "name"), ("file", "not_source")}),
        (package(source), {("file", "raised")}),
        (
            package(pid="calc", metadata="dependencies=['pydantic @ file:///x']"),
            {("pid", "invalid"), ("dependencies", "url")},
        ),
    ):
        problem = await upload(tenant.admin, plugins_of(tenant), data, 422)
        assert (problem["code"], codes(problem)) == ("PL-0003", found)

    assert (await tenant.admin.get(plugins_of(tenant))).json()["items"] == []
    assert not list(resources.settings.packages.storage_root.rglob("*.zip"))  # type: ignore[union-attr]  # set in tests


async def test_a_package_that_is_too_large_is_a_413(world: World) -> None:
    tenant = await world.tenant()

    for size in (MAX_PACKAGE_BYTES + 1, MAX_PACKAGE_BYTES * 2):
        assert (await upload(tenant.admin, plugins_of(tenant), b"PK\x03\x04" + bytes(size), 413))["status"] == 413


async def test_an_upload_is_a_form_with_a_file(world: World) -> None:
    tenant = await world.tenant()

    no_form = await tenant.admin.post(f"{plugins_of(tenant)}/upload", {"file": "x"})
    no_file = await tenant.admin.call("POST", f"{plugins_of(tenant)}/upload", files={"other": b"x"})

    assert (no_form.status_code, no_file.status_code) == (415, 422)


async def test_an_organization_with_a_domain_uploads_under_it_only(world: World) -> None:
    org_id = await world.organization(domain="acme.io")
    tenant = Tenant(org_id, await world.member(org_id, is_admin=True), await world.member(org_id))

    problem = await upload(tenant.admin, plugins_of(tenant), package(pid="com.other.calc"), 422)

    assert codes(problem) == {("pid", "foreign_domain")}
    assert (await uploaded(tenant, pid="io.acme.calc"))["pid"] == "io.acme.calc"


async def test_system_plugins_are_seen_by_all_and_their_pids_are_taken(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    system = await upload(root, ADMIN, package(), trusted="true")
    own = await uploaded(tenant, pid="com.acme.own")

    listed = (await tenant.admin.get(plugins_of(tenant))).json()["items"]
    problem = await upload(tenant.admin, plugins_of(tenant), package(pid="com.ACME.calc", version="2.0"), 422)

    assert (system["source"], system["trusted"], own["trusted"]) == ("system", True, False)
    assert [(row["pid"], row["source"]) for row in listed] == [("com.acme.calc", "system"), ("com.acme.own", "org")]
    assert codes(problem) == {("pid", "taken")}
    path = f"{plugins_of(tenant)}/{system['id']}"
    assert (await tenant.admin.get(path)).status_code == 200
    assert (await tenant.admin.patch(path, {"enabled": False})).status_code == 404
    assert (await tenant.admin.delete(path)).status_code == 404
    assert [row["pid"] for row in (await root.get(ADMIN)).json()["items"]] == ["com.acme.calc"]


async def test_another_organization_sees_uses_changes_and_deletes_nothing_of_it(
    world: World, resources: Resources
) -> None:
    ours, theirs = await world.tenant(), await world.tenant()
    plugin = await uploaded(ours)
    path = f"{plugins_of(theirs)}/{plugin['id']}"

    answers = [
        await theirs.admin.get(path),
        await theirs.admin.get(f"{path}/settings-schema"),
        await theirs.admin.get(f"{plugins_of(theirs)}/com.acme.calc/versions"),
        await theirs.admin.patch(path, {"enabled": False}),
        await theirs.admin.delete(path),
        await theirs.admin.get(f"{plugins_of(ours)}/{plugin['id']}"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 6
    assert (await theirs.admin.get(plugins_of(theirs))).json()["items"] == []
    for ref in (plugin["id"], "com.acme.calc", "com.acme.calc@1.0.0"):
        with pytest.raises(InvalidRequest):
            await resolved(resources, theirs, ref)
    assert (await uploaded(theirs))["id"] != plugin["id"]
    assert (await ours.admin.get(f"{plugins_of(ours)}/{plugin['id']}")).json() == plugin


async def test_members_and_strangers_have_no_place_in_the_catalogue(world: World, root: Caller) -> None:
    tenant = await world.tenant()

    assert (await tenant.member.get(plugins_of(tenant))).status_code == 403
    await upload(tenant.member, plugins_of(tenant), package(), 403)
    await upload(tenant.admin, ADMIN, package(), 403)
    assert (await tenant.admin.get(ADMIN)).status_code == 403


async def resolved(resources: Resources, tenant: Tenant, *refs: str) -> list[str]:
    org_id = parse_id(tenant.org_id)
    assert org_id is not None
    async with resources.database() as session:
        service = provide_plugins(session, resources)
        return [entry.key for entry in await service.resolve(org_id, refs)]


async def test_refs_stand_for_exact_or_highest_enabled_versions(
    world: World, root: Caller, resources: Resources
) -> None:
    tenant = await world.tenant()
    await upload(root, ADMIN, package(pid="com.sys.time"))
    ids = {version: (await uploaded(tenant, version=version))["id"] for version in ("1.0.0", "2.0.0", "10.0.0")}
    patched = await tenant.admin.patch(f"{plugins_of(tenant)}/{ids['10.0.0']}", {"enabled": False})

    keys = await resolved(resources, tenant, "com.acme.calc", "com.acme.calc@1.0.0", ids["1.0.0"], "com.sys.time")

    calc = "org:com.acme.calc"
    assert patched.json()["enabled"] is False
    assert keys == [f"{calc}@2.0.0", f"{calc}@1.0.0", f"{calc}@1.0.0", "system:com.sys.time@1.0.0"]
    with pytest.raises(InvalidRequest) as refusal:
        await resolved(resources, tenant, "com.sys.time", ids["10.0.0"], "com.acme.calc@3.0", str(new_id()))
    assert [(error.field, error.code) for error in refusal.value.errors] == [
        ("active_plugin_ids[1]", "disabled"),
        ("active_plugin_ids[2]", "unknown"),
        ("active_plugin_ids[3]", "unknown"),
    ]


async def test_the_list_is_filtered_and_paged(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    await upload(root, ADMIN, package(pid="com.sys.time"), tag="clock")
    for i in range(3):
        await uploaded(tenant, pid=f"com.acme.p{i}")

    async def pids(query: str) -> list[str]:
        return [row["pid"] for row in (await tenant.admin.get(f"{plugins_of(tenant)}?{query}")).json()["items"]]

    first = (await tenant.admin.get(f"{plugins_of(tenant)}?limit=3")).json()
    assert [row["pid"] for row in first["items"]] == ["com.sys.time", "com.acme.p0", "com.acme.p1"]
    assert await pids(f"limit=3&cursor={first['next_cursor']}") == ["com.acme.p2"]
    assert await pids("tag=clock") == ["com.sys.time"]
    assert await pids("pid=com.acme.p1") == ["com.acme.p1"]
    assert await pids("q=ACME") == ["com.acme.p0", "com.acme.p1", "com.acme.p2"]
    assert await pids("q=%25") == []


async def test_a_change_of_an_older_state_is_refused(world: World) -> None:
    tenant = await world.tenant()
    path = f"{plugins_of(tenant)}/{(await uploaded(tenant))['id']}"
    tag = (await tenant.admin.get(path)).headers["ETag"]

    assert (await tenant.admin.patch(path, {"tag": "a"}, headers={"If-Match": tag})).status_code == 200
    assert (await tenant.admin.patch(path, {"tag": "b"}, headers={"If-Match": tag})).status_code == 412
    assert (await tenant.admin.delete(path, headers={"If-Match": tag})).status_code == 412
    assert (await tenant.admin.patch(path, {"trusted": True})).status_code == 422


async def test_a_deleted_version_is_gone_with_its_bytes_and_may_come_back(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    plugin = await uploaded(tenant)
    path = f"{plugins_of(tenant)}/{plugin['id']}"
    key = package_key(parse_id(tenant.org_id), "com.acme.calc", "1.0.0")

    assert (await tenant.admin.delete(path)).status_code == 204

    assert (await tenant.admin.get(path)).status_code == 404
    with pytest.raises(PluginLoadFailed):
        await resources.packages.get(key, digest=plugin["digest"])
    assert (await upload(tenant.admin, plugins_of(tenant), package(top="y = 2")))["id"] != plugin["id"]


async def test_a_version_that_an_instance_uses_cannot_be_deleted(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    plugin = await uploaded(tenant)
    instance_id = new_id()
    async with resources.database() as session:
        session.add(
            Orchestrator(
                id=instance_id,
                org_id=parse_id(tenant.org_id),
                name="Helpdesk",
                framework_type="langgraph",
                mode="supervisor",
                config={},
                config_hash="",
            )
        )
        await session.flush()
        session.add(OrchestratorPlugin(instance_id=instance_id, position=0, org_plugin_id=parse_id(plugin["id"])))
        await session.commit()

    answer = await tenant.admin.delete(f"{plugins_of(tenant)}/{plugin['id']}")

    assert (answer.status_code, answer.json()["code"]) == (409, "RE-0003")
    assert "Helpdesk" in answer.json()["detail"]
    assert (await tenant.admin.get(f"{plugins_of(tenant)}/{plugin['id']}")).status_code == 200


async def test_of_simultaneous_uploads_of_one_version_one_wins(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    packages = [package(top=f"x = {i}") for i in range(3)]

    async def send(data: bytes) -> int:
        answer = await tenant.admin.call("POST", f"{plugins_of(tenant)}/upload", files={"file": ("p.zip", data)})
        return answer.status_code

    statuses = await asyncio.gather(*map(send, packages))

    assert sorted(statuses) == [201, 409, 409]
    (row,) = (await tenant.admin.get(plugins_of(tenant))).json()["items"]
    key = package_key(parse_id(tenant.org_id), "com.acme.calc", "1.0.0")
    assert await resources.packages.get(key, digest=row["digest"]) == packages[statuses.index(201)]


async def test_a_store_that_is_away_refuses_the_upload_and_nothing_is_registered(
    world: World, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await world.tenant()

    async def away(key: str, data: bytes) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(resources.packages, "put", away)
        await upload(tenant.admin, plugins_of(tenant), package(), 503)
    assert (await tenant.admin.get(plugins_of(tenant))).json()["items"] == []
    await uploaded(tenant)
