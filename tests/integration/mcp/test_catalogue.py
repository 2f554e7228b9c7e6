"""MCP servers in the catalogue: added, shown, refused, kept apart."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from control_plane.plugins.tables import OrgPlugin
from control_plane.wiring import Resources
from control_plane.wiring.definitions import data_keys
from shared.snapshots import SEALED_DEFAULT_FIELD, plugin_default_place
from tests.fakes.mcp_server import FakeMCPServer
from tests.integration.control_plane.callers import Caller, Tenant, World
from tests.integration.control_plane.test_worker_feed import snapshot_of
from tests.integration.control_plane.workshop import Workshop

ADMIN = "/api/admin/plugins"
SECRET = "Bearer canary-8123"
PID = "com.acme.remote"


def body(url: str | None, **changes: Any) -> dict[str, Any]:
    described = {"pid": PID, "version": "1.0.0", "name": "Remote", "description": "Calculates elsewhere"}
    return {**described, "transport": "streamable_http", "url": url, **changes}


async def add(tenant: Tenant, url: str | None, status: int = 201, **changes: Any) -> Any:
    answer = await tenant.admin.post(f"{tenant.path}/plugins/mcp", body(url, **changes))
    assert answer.status_code == status, answer.text
    assert SECRET not in answer.text
    return answer.json()


def codes(problem: Any) -> set[tuple[str, str]]:
    assert problem["code"] == "PL-0003"
    return {(error["field"], error["code"]) for error in problem["errors"]}


async def test_a_server_becomes_a_plugin_with_the_tools_it_lists(world: World, mcp_server: FakeMCPServer) -> None:
    tenant = await world.tenant()

    plugin = await add(tenant, mcp_server.url, headers={"Authorization": SECRET}, tag="remote")

    assert (plugin["kind"], plugin["source"], plugin["is_latest"], plugin["tag"]) == ("mcp", "org", True, "remote")
    assert [(t["name"], t["description"]) for t in plugin["tools"]] == [
        ("add", "Add two numbers."),
        ("divide", "Divide."),
    ]
    assert plugin["tools"][0]["schema"]["required"] == ["a", "b"]
    assert plugin["default_settings"] == {"headers": "***"}
    assert plugin["mcp"]["url"] == mcp_server.url
    listed = (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"]
    assert listed == [plugin]
    assert (await tenant.admin.get(f"{tenant.path}/plugins/{plugin['id']}")).json() == plugin
    form = (await tenant.admin.get(f"{tenant.path}/plugins/{plugin['id']}/settings-schema")).json()
    assert [(s["key"], s["type"], s["sensitive"]) for s in form["settings"]] == [
        ("allowed_tools", "list", False),
        ("headers", "dict", True),
    ]
    assert SECRET in [seen.get("authorization") for seen in mcp_server.requests], "it was asked with its headers"


async def test_only_allowed_tools_are_listed_and_they_must_be_there(world: World, mcp_server: FakeMCPServer) -> None:
    tenant = await world.tenant()

    plugin = await add(tenant, mcp_server.url, tool_allow_list=["divide"])
    problem = await add(tenant, mcp_server.url, 422, version="2.0.0", tool_allow_list=["divide", "erase"])

    assert [tool["name"] for tool in plugin["tools"]] == ["divide"]
    assert codes(problem) == {("tool_allow_list", "unknown")}
    assert "erase" in problem["detail"]


async def test_headers_are_sealed_at_rest_and_in_snapshots(
    world: World, resources: Resources, http: httpx.AsyncClient, mcp_server: FakeMCPServer
) -> None:
    shop = await Workshop.open(world, resources)
    plugin = await add(shop.tenant, mcp_server.url, headers={"Authorization": SECRET})
    made = await shop.orchestrator(active_plugin_ids=[PID])

    async with resources.database() as session:
        row = (await session.execute(select(OrgPlugin))).scalar_one()
        keyring = await data_keys(session, resources).opening(row.org_id)
    assert SECRET not in f"{row.default_settings}{row.manifest}{row.mcp}"
    place = plugin_default_place("org", row.id, "headers")
    assert SECRET in keyring.open(row.default_settings["headers"][SEALED_DEFAULT_FIELD], **place)
    (snapshot,) = (await snapshot_of(http, made["instance_id"])).plugins
    assert (snapshot.kind, str(snapshot.plugin_id)) == ("mcp", plugin["id"])
    assert snapshot.mcp is not None
    assert snapshot.mcp.url == mcp_server.url
    assert SECRET not in str(snapshot)


async def test_an_instance_sets_its_own_headers_and_tools(
    world: World, resources: Resources, mcp_server: FakeMCPServer
) -> None:
    shop = await Workshop.open(world, resources)
    await add(shop.tenant, mcp_server.url)
    key = f"org:{PID}@1.0.0"
    settings = {"headers": {"Authorization": SECRET}, "allowed_tools": ["add"]}

    made = await shop.orchestrator(active_plugin_ids=[PID], plugin_settings={PID: settings})

    assert made["plugin_settings"] == {key: {"headers": "***", "allowed_tools": ["add"]}}
    for wrong, setting, code in (
        ({"allowed_tools": "add"}, "allowed_tools", "type"),
        ({"allowed_tools": [1]}, "allowed_tools", "invalid"),
        ({"headers": {"Host": "elsewhere"}}, "headers", "invalid"),
        ({"headers": {"X-Key": f"{SECRET}\r\nHost: elsewhere"}}, "headers", "invalid"),
    ):
        refused = await shop.admin.patch(shop.at(made, "/plugin-settings"), {"plugin_settings": {PID: wrong}})
        assert refused.status_code == 422
        assert [(e["field"], e["code"]) for e in refused.json()["errors"]] == [
            (f"plugin_settings.{PID}.{setting}", code)
        ]
        assert SECRET not in refused.text


async def test_every_refusal_says_why_and_leaves_nothing(world: World, mcp_server: FakeMCPServer) -> None:
    tenant = await world.tenant()
    away = FakeMCPServer()
    await away.start()
    await away.stop()
    refusals: list[tuple[str | None, dict[str, Any], set[tuple[str, str]]]] = [
        (away.url, {}, {("url", "unusable")}),
        ("http://169.254.169.254/mcp", {}, {("url", "address")}),
        ("ftp://mcp.example", {}, {("url", "address")}),
        (None, {}, {("url", "required")}),
        (mcp_server.url, {"headers": {"Mcp-Session-Id": "x"}}, {("headers", "invalid")}),
        (mcp_server.url, {"command": "sh"}, {("command", "unused")}),
        (mcp_server.url, {"pid": "remote", "version": "one"}, {("pid", "invalid"), ("version", "invalid")}),
        (None, {"transport": "stdio", "command": "sh"}, {("transport", "forbidden")}),
    ]
    for url, changes, expected in refusals:
        asked = len(mcp_server.requests)
        problem = await add(tenant, url, 422, **changes)
        assert codes(problem) == expected
        assert len(mcp_server.requests) == asked, "nothing is asked with what is refused"
    for status, words in ((401, "check its headers"), (404, "is this the URL"), (500, "answered 500")):
        mcp_server.answer_with = status
        problem = await add(tenant, mcp_server.url, 422)
        assert words in problem["detail"]
        assert "secret words" not in str(problem)
    assert (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"] == []


async def test_a_server_that_answers_nothing_is_refused_at_its_deadline(
    world: World, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await world.tenant()
    monkeypatch.setattr(resources.mcp_discovery, "_contact_seconds", 0.3)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        problem = await add(tenant, f"http://127.0.0.1:{port}/mcp", 422)
    assert codes(problem) == {("url", "unusable")}
    assert "did not answer within 0.3 seconds" in problem["detail"]


async def test_a_version_is_added_once_and_deleted_like_any_other(world: World, mcp_server: FakeMCPServer) -> None:
    tenant = await world.tenant()
    plugin = await add(tenant, mcp_server.url)

    assert (await add(tenant, mcp_server.url, 409))["code"] == "PL-0002"
    assert (await add(tenant, mcp_server.url, 409, version="1.0"))["code"] == "PL-0002"
    assert (await add(tenant, mcp_server.url, version="1.1.0"))["is_latest"] is True
    path = f"{tenant.path}/plugins/{plugin['id']}"
    assert (await tenant.admin.patch(path, {"enabled": False})).json()["enabled"] is False
    assert (await tenant.admin.delete(path)).status_code == 204
    assert (await tenant.admin.get(path)).status_code == 404


async def test_another_organization_sees_and_uses_nothing_of_it(world: World, mcp_server: FakeMCPServer) -> None:
    ours, theirs = await world.tenant(), await world.tenant()
    plugin = await add(ours, mcp_server.url)
    path = f"{theirs.path}/plugins/{plugin['id']}"

    answers = [
        await theirs.admin.get(path),
        await theirs.admin.get(f"{path}/settings-schema"),
        await theirs.admin.patch(path, {"enabled": False}),
        await theirs.admin.delete(path),
        await theirs.admin.post(f"{ours.path}/plugins/mcp", body(mcp_server.url, version="2.0.0")),
    ]

    assert [answer.status_code for answer in answers] == [404] * 5
    assert (await theirs.admin.get(f"{theirs.path}/plugins")).json()["items"] == []
    assert (await add(theirs, mcp_server.url))["id"] != plugin["id"], "the pid is theirs as well"
    for caller, where in ((ours.member, f"{ours.path}/plugins"), (ours.admin, ADMIN)):
        assert (await caller.post(f"{where}/mcp", body(mcp_server.url, version="3.0.0"))).status_code == 403


async def test_a_system_server_is_everybodys_and_its_place_nobodys(
    world: World, root: Caller, mcp_server: FakeMCPServer
) -> None:
    tenant = await world.tenant()
    answer = await root.post(f"{ADMIN}/mcp", body(mcp_server.url, headers={"Authorization": SECRET}))
    assert answer.status_code == 201, answer.text

    (shown,) = (await tenant.admin.get(f"{tenant.path}/plugins")).json()["items"]
    problem = await add(tenant, mcp_server.url, 422, version="2.0.0")

    assert (shown["kind"], shown["source"], shown["mcp"]) == ("mcp", "system", None)
    assert mcp_server.url not in str(shown)
    assert codes(problem) == {("pid", "taken")}


async def test_a_system_server_may_be_a_command(root: Caller) -> None:
    missing = await root.post(f"{ADMIN}/mcp", body(None, transport="stdio", command="/no/such/server"))
    assert codes(missing.json()) == {("command", "unusable")}
    bare = await root.post(f"{ADMIN}/mcp", body("http://x", transport="stdio", headers={"A": "b"}))
    assert codes(bare.json()) == {("command", "required"), ("url", "unused"), ("headers", "unused")}
