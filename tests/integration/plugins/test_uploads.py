"""What comes of an upload through the API: a row, its bytes and news for workers, or every reason why not."""

import asyncio

import pytest
from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.plugins.tables import OrgPlugin
from control_plane.wiring import Resources
from shared.errors import StoreUnavailable
from shared.events import PluginChanged, decode_event
from shared.ids import parse_id
from shared.packages import digest_of, package_key
from shared.packages.archive import MAX_PACKAGE_BYTES
from tests.fakes.plugin_packages import package, zipped
from tests.integration.control_plane.callers import Tenant, World
from tests.integration.plugins.uploads import SECRET, codes, plugins_of, upload, uploaded


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
