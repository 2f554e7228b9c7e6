"""Who changed what: told in the transaction of the change, kept from being rewritten, seen by whom it concerns."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg
import pytest
from psycopg.types.json import Jsonb

from control_plane.audit import verify as verify_command
from control_plane.audit.chain import verify
from control_plane.audit.retention import prune
from control_plane.wiring import Resources
from shared.audit import ToldChange
from shared.clock import SystemClock
from shared.ids import new_id
from shared.settings import ControlPlaneSettings
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import PASSWORD, Caller, Tenant, World

SECRET_KEY = "sk-canary-0123456789abcdef"
KEY = {"name": "k", "provider": "openai", "api_key": SECRET_KEY}


async def entries(caller: Caller, path: str, **params: Any) -> list[dict[str, Any]]:
    answer = await caller.get(path, params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def broken(resources: Resources) -> dict[UUID | None, int | None]:
    """Where each chain is broken, None for one that is whole."""
    async with resources.database() as session:
        return {report.org_id: report.broken_at async for report in verify(session)}


async def test_a_change_is_told_with_who_where_and_what_it_was_before(world: World) -> None:
    tenant = await world.tenant()
    made = await tenant.admin.post(f"{tenant.path}/llm-configs", KEY)
    path = f"{tenant.path}/llm-configs/{made.json()['id']}"
    renamed = await tenant.admin.patch(path, {"name": "renamed"}, headers={"X-Request-ID": "mine-7"})
    assert renamed.status_code == 200

    entry = (await entries(tenant.admin, f"{tenant.path}/audit"))[0]

    assert entry["actor_id"] == str(tenant.admin.user_id)
    assert (entry["actor"], entry["address"], entry["request_id"]) == (tenant.admin.username, "127.0.0.1", "mine-7")
    assert (entry["method"], entry["resource"], entry["refused_with"]) == ("PATCH", path, None)
    assert entry["route"] == "/api/orgs/{org_id}/llm-configs/{config_id}"
    (change,) = [change for change in entry["changes"] if change["table"] == "organization_llm_configs"]
    assert (change["action"], change["id"]) == ("update", made.json()["id"])
    assert (change["before"]["name"], change["after"]["name"]) == ("k", "renamed")


async def test_no_secret_is_in_any_entry(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    config = (await tenant.admin.post(f"{tenant.path}/llm-configs", KEY)).json()
    await tenant.admin.patch(f"{tenant.path}/llm-configs/{config['id']}", {"api_key": SECRET_KEY + "2"})
    key = (await tenant.admin.post("/api/me/api-keys", {"name": "k", "scopes": ["cadence:org:read"]})).json()["key"]
    await root.patch(f"/api/admin/users/{tenant.member.user_id}", {"password": "a canary password"})
    body = {"current_password": PASSWORD, "new_password": "another canary password"}
    assert (await tenant.admin.patch("/api/me/profile", body)).status_code == 200

    told = (await root.get("/api/admin/audit?limit=200")).text

    for secret in (SECRET_KEY, key[4:], "canary", PASSWORD, "argon2", "v1.k1."):
        assert secret not in told, secret
    assert "***" in told


async def test_what_an_administrator_is_refused_is_told_and_what_a_member_is_is_not(world: World, root: Caller) -> None:
    here, there = await world.tenant(), await world.tenant()
    last = f"{here.path}/users/{here.admin.user_id}"
    assert (await here.admin.delete(last)).status_code == 409
    assert (await here.member.delete(last)).status_code == 403
    assert (await here.admin.get(f"{here.path}/orchestrators/{new_id()}")).status_code == 404
    foreign = f"{there.path}/users/{there.member.user_id}"
    assert (await here.admin.delete(foreign)).status_code == 404

    newest = (await entries(here.admin, f"{here.path}/audit"))[0]
    assert (newest["method"], newest["resource"], newest["refused_with"], newest["changes"]) == (
        "DELETE",
        last,
        409,
        [],
    )
    assert all(e["actor_id"] != str(here.member.user_id) for e in await entries(root, "/api/admin/audit", limit=200))
    # An organization is not told of strangers.
    assert all(e["resource"] != foreign for e in await entries(there.admin, f"{there.path}/audit"))


async def test_an_organization_sees_its_own_entries_and_the_platforms_people_in_it(world: World, root: Caller) -> None:
    mine, theirs = await world.tenant(), await world.tenant()
    await theirs.admin.patch(f"{theirs.path}/profile", {"display_name": "theirs"})
    await root.patch(f"/api/admin/orgs/{mine.org_id}", {"tier": "pro"})

    listed = await entries(mine.admin, f"{mine.path}/audit", limit=200)

    assert {e["org_id"] for e in listed} == {mine.org_id}
    assert (listed[0]["actor"], listed[0]["changes"][0]["after"]) == ("root", {"tier": "pro"})
    assert (await mine.member.get(f"{mine.path}/audit")).status_code == 403
    assert (await mine.admin.get(f"{theirs.path}/audit")).status_code == 404
    assert (await mine.admin.get("/api/admin/audit")).status_code == 403


async def test_entries_are_found_by_actor_resource_and_time(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    second = await world.member(tenant.org_id, is_admin=True)
    path = f"{tenant.path}/audit"
    for name in ("one", "two"):
        await second.patch(f"{tenant.path}/profile", {"display_name": name})

    mine = await entries(tenant.admin, path, actor_id=str(second.user_id))
    assert [e["changes"][0]["after"]["display_name"] for e in mine] == ["two", "one"]
    assert len(await entries(tenant.admin, path, resource=f"{tenant.path}/profile")) == 2
    assert await entries(tenant.admin, path, resource=f"{tenant.path}/llm-configs") == []
    assert len(await entries(tenant.admin, path, since=mine[0]["at"], resource=f"{tenant.path}/profile")) == 1
    assert len(await entries(tenant.admin, path, until=mine[0]["at"], resource=f"{tenant.path}/profile")) == 1
    first = (await tenant.admin.get(path, params={"limit": 1})).json()
    second_page = (await tenant.admin.get(path, params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [p["items"][0]["id"] for p in (first, second_page)] == [e["id"] for e in mine]


async def test_an_api_key_is_named_beside_its_owner(world: World, http: httpx.AsyncClient) -> None:
    tenant = await world.tenant()
    body = {"name": "program", "scopes": ["cadence:org:write"]}
    made = (await tenant.admin.post("/api/me/api-keys", body)).json()
    headers = {"X-API-KEY": made["key"]}

    assert (await http.patch(f"{tenant.path}/profile", json={"display_name": "x"}, headers=headers)).status_code == 200

    newest = (await entries(tenant.admin, f"{tenant.path}/audit"))[0]
    assert (newest["actor_id"], newest["api_key_id"]) == (str(tenant.admin.user_id), made["api_key"]["id"])


async def test_a_repeated_request_is_told_once_and_one_that_changes_nothing_not_at_all(world: World) -> None:
    tenant = await world.tenant()
    count = len(await entries(tenant.admin, f"{tenant.path}/audit", limit=200))
    for _ in range(3):
        answer = await tenant.admin.post(f"{tenant.path}/llm-configs", KEY, headers={"Idempotency-Key": "once"})
        assert answer.status_code == 201
    await tenant.admin.get(f"{tenant.path}/llm-configs")

    assert len(await entries(tenant.admin, f"{tenant.path}/audit", limit=200)) == count + 1


@pytest.fixture
async def tenant(world: World) -> Tenant:
    """An organization whose profile was changed a few times."""
    tenant = await world.tenant()
    for number in range(5):
        await tenant.admin.patch(f"{tenant.path}/profile", {"display_name": f"name {number}"})
    return tenant


REWRITINGS = [
    ("UPDATE audit_log SET actor = 'somebody else' WHERE org_id = %s AND sequence = 3", 3),
    ("UPDATE audit_log SET changes = '[]' WHERE org_id = %s AND sequence = 4", 4),
    ("UPDATE audit_log SET at = at - interval '1 day' WHERE org_id = %s AND sequence = 5", 5),
    ("DELETE FROM audit_log WHERE org_id = %s AND sequence = 3", 3),
    ("DELETE FROM audit_log WHERE org_id = %s AND sequence >= 5", 5),
]


async def test_what_was_rewritten_or_removed_is_noticed(
    tenant: Tenant, resources: Resources, postgres_owner_url: str
) -> None:
    assert set((await broken(resources)).values()) == {None}

    for statement, sequence in REWRITINGS:
        # By somebody who has the login that owns the tables, and takes it back afterwards.
        with psycopg.connect(postgres_owner_url) as connection:
            kept = connection.execute("SELECT * FROM audit_log").fetchall()
            names = [column.name for column in connection.execute("SELECT * FROM audit_log LIMIT 0").description or []]
            connection.execute(statement, (tenant.org_id,))
            connection.commit()
            assert (await broken(resources))[UUID(tenant.org_id)] == sequence, statement
            connection.execute("DELETE FROM audit_log")
            places = ", ".join(["%s"] * len(names))
            with connection.cursor() as cursor:
                at = names.index("changes")
                rows = [[Jsonb(v) if i == at else v for i, v in enumerate(row)] for row in kept]
                cursor.executemany(f"INSERT INTO audit_log VALUES ({places})", rows)
            connection.commit()
        assert set((await broken(resources)).values()) == {None}


async def test_the_application_itself_cannot_rewrite_an_entry(tenant: Tenant, postgres_url: str) -> None:
    for role in ("cadence_tenant", "cadence_platform"):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"SET ROLE {role}")
            connection.execute("SELECT set_config('app.org_id', %s, false)", (tenant.org_id,))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("UPDATE audit_log SET actor = 'nobody'")
            if role == "cadence_tenant":
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("DELETE FROM audit_log")


async def test_retention_takes_what_is_old_and_the_rest_still_holds_together(
    tenant: Tenant, resources: Resources, clock: ManualClock
) -> None:
    now = SystemClock().now()
    before = len(await entries(tenant.admin, f"{tenant.path}/audit", limit=200))

    assert await prune(resources.database, ManualClock(now), 1) == 0
    old = ManualClock(now + timedelta(days=2))
    assert await prune(resources.database, old, 1) >= before

    assert await entries(tenant.admin, f"{tenant.path}/audit") == []
    await tenant.admin.patch(f"{tenant.path}/profile", {"display_name": "after"})
    assert len(await entries(tenant.admin, f"{tenant.path}/audit")) == 1
    assert set((await broken(resources)).values()) == {None}
    assert await prune(resources.database, ManualClock(now), 1) == 0


async def test_many_at_once_still_make_one_chain(tenant: Tenant, resources: Resources) -> None:
    answers = await asyncio.gather(
        *(tenant.admin.patch(f"{tenant.path}/profile", {"description": f"{n}"}) for n in range(12))
    )

    assert {a.status_code for a in answers} == {200}
    assert set((await broken(resources)).values()) == {None}


async def test_a_change_that_fails_leaves_no_entry_of_having_been_done(world: World) -> None:
    tenant = await world.tenant()
    await tenant.admin.post(f"{tenant.path}/llm-configs", KEY)

    assert (await tenant.admin.post(f"{tenant.path}/llm-configs", KEY)).status_code == 409

    newest, made = (await entries(tenant.admin, f"{tenant.path}/audit"))[:2]
    assert (newest["refused_with"], newest["changes"], made["refused_with"]) == (409, [], None)


def test_the_command_says_which_chain_is_broken_and_fails(
    settings: ControlPlaneSettings,
    postgres_owner_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(verify_command, "read_control_plane_settings", lambda _: settings)
    assert verify_command.main() == 0

    org_id = new_id()
    with psycopg.connect(postgres_owner_url) as connection:
        connection.execute("INSERT INTO audit_chains VALUES (%s, 1, 'a hash', 0, '')", (org_id,))

    assert verify_command.main() == 1
    assert f"organization {org_id}" in (shown := capsys.readouterr().out)
    assert "BROKEN at entry 1: the entry is missing" in shown


async def test_what_was_changed_in_a_worker_is_in_the_log_of_its_organization(
    world: World, resources: Resources, http: httpx.AsyncClient
) -> None:
    here, there = await world.tenant(), await world.tenant()
    resource = f"{here.path}/conversations/{new_id()}"
    change = ToldChange(
        org_id=UUID(here.org_id),
        at=SystemClock().now(),
        actor_id=here.admin.user_id,
        actor=here.admin.username,
        api_key_id=None,
        address="198.51.100.1",
        request_id="mine-7",
        method="DELETE",
        route="/api/orgs/{org_id}/conversations/{conversation_id}",
        resource=resource,
        refused_with=404,
    )
    body = msgspec.to_builtins(change)
    headers = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}

    assert (await http.post("/internal/audit", json=body, headers=headers)).status_code == 204

    (entry,) = await entries(here.admin, f"{here.path}/audit", resource=resource)
    assert (entry["actor_id"], entry["address"], entry["refused_with"]) == (
        str(here.admin.user_id),
        "198.51.100.1",
        404,
    )
    assert await entries(there.admin, f"{there.path}/audit", resource=resource) == []
    assert set((await broken(resources)).values()) == {None}
    nowhere = {**body, "org_id": str(new_id())}
    assert (await http.post("/internal/audit", json=nowhere, headers=headers)).status_code == 404
    assert (await http.post("/internal/audit", json=body)).status_code == 401
