"""API keys: what they may do, who makes them, and that nobody sees another's."""

import httpx

from shared.ids import new_id
from shared.security.api_keys import new_key
from shared.security.permissions import MEMBER_PERMISSIONS, ORG_ADMIN_PERMISSIONS, Permission
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.key_holders import READ_MEMBERS, READ_ORG, KeyHolder, made
from tests.unit.shared.test_security import grant


async def test_a_key_may_do_its_scopes_and_nothing_more(world: World) -> None:
    tenant = await world.tenant()
    program, _ = await made(tenant.admin, [READ_MEMBERS])

    assert (await program.get(f"{tenant.path}/users")).status_code == 200
    for method, path in (("GET", ""), ("GET", "/llm-configs"), ("DELETE", f"/users/{tenant.member.user_id}")):
        assert (await program.call(method, tenant.path + path)).status_code == 403
    for path in ("/api/me", "/api/admin/users", "/api/me/api-keys"):
        assert (await program.get(path)).status_code == 403


async def test_a_key_comes_as_a_bearer_token_too(world: World, http: httpx.AsyncClient) -> None:
    tenant = await world.tenant()
    program, _ = await made(tenant.admin, [READ_MEMBERS])

    answer = await http.get(f"{tenant.path}/users", headers={"Authorization": f"Bearer {program.key}"})

    assert answer.status_code == 200


async def test_nobody_makes_a_key_that_may_do_more_than_they(world: World) -> None:
    tenant, other = await world.tenant(), await world.tenant()

    refused: list[tuple[Caller, list[str], dict[str, str], int]] = [
        (tenant.member, [READ_MEMBERS], {}, 422),
        (tenant.member, ["cadence:system:admin"], {}, 422),
        (tenant.admin, ["cadence:system:users:read"], {}, 422),
        (tenant.admin, [READ_MEMBERS], {"org_id": other.org_id}, 404),
        (tenant.admin, [READ_MEMBERS], {"org_id": str(new_id())}, 404),
        (tenant.admin, [], {}, 422),
        (tenant.admin, ["cadence:nothing"], {}, 422),
        (tenant.admin, [READ_MEMBERS], {"expires_at": "2020-01-01T00:00:00Z"}, 422),
        (tenant.admin, [READ_MEMBERS], {"expires_at": "2099-01-01T00:00:00"}, 422),
    ]
    for caller, scopes, fields, status in refused:
        answer = await caller.post("/api/me/api-keys", {"name": "k", "scopes": scopes, **fields})
        assert answer.status_code == status, (scopes, fields, answer.text)


async def test_a_key_can_do_no_more_than_its_owner_still_can(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    second = await world.member(tenant.org_id, is_admin=True)
    program, _ = await made(second, [READ_MEMBERS, READ_ORG])
    membership = f"{tenant.path}/users/{second.user_id}"

    await tenant.admin.patch(f"{membership}/membership", {"is_admin": False})
    assert [(await program.get(tenant.path + path)).status_code for path in ("/users", "")] == [403, 200]
    await tenant.admin.delete(membership)
    assert (await program.get(tenant.path)).status_code == 404
    await root.delete(f"/api/admin/users/{second.user_id}")
    assert (await program.get(tenant.path)).status_code == 401


async def test_a_key_of_one_organization_is_nobody_elsewhere(world: World, root: Caller) -> None:
    here, there = await world.tenant(), await world.tenant()
    await root.post(f"{there.path}/members", {"user_id": str(here.admin.user_id), "is_admin": True})
    scopes = [READ_MEMBERS, "cadence:profile:read", "cadence:profile:write"]
    bound, _ = await made(here.admin, scopes, org_id=here.org_id)
    free, _ = await made(here.admin, scopes)

    assert (await bound.get(f"{here.path}/users")).status_code == 200
    assert (await free.get(f"{there.path}/users")).status_code == 200
    foreign, unknown = await bound.get(f"{there.path}/users"), await bound.get(f"/api/orgs/{new_id()}/users")
    assert [(answer.status_code, answer.json()["code"]) for answer in (foreign, unknown)] == [(404, "RE-0001")] * 2
    assert (await bound.get("/api/me")).status_code == 403
    listed = [[o["org_id"] for o in (await p.get("/api/orgs")).json()["items"]] for p in (bound, free)]
    assert listed == [[here.org_id], [here.org_id, there.org_id]]


async def test_a_sys_admins_key_is_no_sys_admin_unless_it_says_so(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    reader, _ = await made(root, ["cadence:system:users:read", READ_ORG])
    everything, _ = await made(root, ["cadence:system:admin"])

    assert (await reader.get("/api/admin/users")).status_code == 200
    assert (await reader.get("/api/orgs")).json()["items"] == []
    assert (await reader.get(tenant.path)).json()["role"] == "user"
    assert (await reader.get(f"{tenant.path}/users")).status_code == 403
    assert (await everything.get(f"{tenant.path}/users")).status_code == 200
    assert len((await everything.get("/api/orgs")).json()["items"]) == 1


async def test_keys_of_others_look_like_keys_that_do_not_exist(world: World) -> None:
    theirs, mine = await world.tenant(), await world.tenant()
    program, key_id = await made(theirs.admin, [READ_ORG])

    for path in (key_id, str(new_id())):
        assert (await mine.admin.delete(f"/api/me/api-keys/{path}")).status_code == 404
        assert (await mine.admin.post(f"/api/me/api-keys/{path}/rotate", {})).status_code == 404
        assert (await mine.admin.delete(f"/api/admin/api-keys/{path}")).status_code == 403
    assert (await mine.admin.get("/api/me/api-keys")).json()["items"] == []
    assert (await program.get(theirs.path)).status_code == 200


async def test_a_key_makes_no_keys(world: World, root: Caller) -> None:
    caller = await world.user()
    program, key_id = await made(caller, ["cadence:profile:write"])
    admin, _ = await made(root, ["cadence:system:admin"])

    body = {"name": "k", "scopes": ["cadence:profile:write"]}
    assert (await program.call("POST", "/api/me/api-keys", json=body)).status_code == 403
    assert (await program.call("POST", f"/api/me/api-keys/{key_id}/rotate", json={})).status_code == 403
    body = {**body, "user_id": str(caller.user_id)}
    assert (await admin.call("POST", "/api/admin/api-keys", json=body)).status_code == 403
    # It may well end itself.
    assert (await program.call("DELETE", f"/api/me/api-keys/{key_id}")).status_code == 204
    assert (await program.get("/api/me/api-keys")).status_code == 401


async def test_a_key_has_nothing_to_do_with_sessions(world: World) -> None:
    caller = await world.user()
    program, _ = await made(caller, ["cadence:profile:read", "cadence:profile:write"])

    for method, path in (("POST", "/refresh"), ("DELETE", "/logout"), ("DELETE", "/sessions")):
        assert (await program.call(method, f"/api/auth{path}")).status_code == 401
    assert (await caller.get("/api/me")).status_code == 200
    assert (await program.get("/api/me")).json()["username"] == caller.username


async def test_an_admin_makes_keys_for_users_within_what_both_may_do(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    body = {"name": "k", "user_id": str(tenant.member.user_id), "org_id": tenant.org_id}

    beyond = await root.post("/api/admin/api-keys", {**body, "scopes": [READ_MEMBERS]})
    within = await root.post("/api/admin/api-keys", {**body, "scopes": [READ_ORG]})
    unknown = await root.post("/api/admin/api-keys", {**body, "user_id": str(new_id()), "scopes": [READ_ORG]})

    assert [beyond.status_code, within.status_code, unknown.status_code] == [422, 201, 404]
    assert (await KeyHolder(root.http, within.json()["key"]).get(tenant.path)).status_code == 200
    of_member = await root.get(f"/api/admin/api-keys?user_id={tenant.member.user_id}")
    assert len(of_member.json()["items"]) == 1
    assert (await tenant.admin.get("/api/admin/api-keys")).status_code == 403


async def test_what_is_no_key_is_refused(world: World, http: httpx.AsyncClient) -> None:
    caller = await world.user()
    program, _ = await made(caller, ["cadence:profile:read"])
    forged = new_key(caller.user_id)

    broken = ("", "x", "cdk_", "cdk_x", "é", program.key[:-1], program.key + "A", program.key[4:])
    for key in (*broken, forged, new_key(new_id())):
        answer = await http.get("/api/me", headers=[(b"X-API-KEY", key.encode())])
        assert answer.status_code == 401, key
    for _ in range(2):
        assert (await http.get("/api/me", headers={"X-API-KEY": forged})).json()["code"] == "AU-0001"


def test_narrowing_never_makes_anybody_more_than_they_are() -> None:
    everything = frozenset(Permission)
    assert grant("user").narrowed(everything).permissions == MEMBER_PERMISSIONS
    assert grant("org_admin").narrowed(everything).role == "org_admin"
    assert grant("org_admin").narrowed(ORG_ADMIN_PERMISSIONS - {Permission.CHAT_USE}).role == "user"
    narrowed = grant("sys_admin").narrowed(frozenset({Permission.SYSTEM_USERS_READ}))
    assert (narrowed.role, narrowed.is_sys_admin) == ("user", False)
    assert narrowed.permissions == {Permission.SYSTEM_USERS_READ}
