"""Catalogue and deletion through the API, as admins of two organizations and of the system."""

import pytest

from control_plane.orchestrators.tables import Orchestrator, OrchestratorPlugin
from control_plane.wiring import Resources
from control_plane.wiring.plugins import provide_plugins
from shared.errors import InvalidRequest, PluginLoadFailed
from shared.ids import new_id, parse_id
from shared.packages import package_key
from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import Caller, Tenant, World
from tests.integration.plugins.uploads import ADMIN, codes, plugins_of, upload, uploaded


async def test_the_latest_is_the_highest_version_and_not_the_last_upload(world: World) -> None:
    tenant = await world.tenant()
    ids = {version: (await uploaded(tenant, version=version))["id"] for version in ("1.10.0", "1.9.0", "1.2.0")}

    async def latest() -> list[tuple[str, bool]]:
        rows = (await tenant.admin.get(f"{plugins_of(tenant)}/com.acme.calc/versions")).json()["items"]
        return [(row["version"], row["is_latest"]) for row in rows]

    assert await latest() == [("1.10.0", True), ("1.9.0", False), ("1.2.0", False)]
    assert (await tenant.admin.delete(f"{plugins_of(tenant)}/{ids['1.10.0']}")).status_code == 204
    assert await latest() == [("1.9.0", True), ("1.2.0", False)]


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
