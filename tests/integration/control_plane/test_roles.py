"""Custom roles: what they give, to whom, how soon, and what nobody can give."""

from typing import Any

import httpx
import pytest

from shared.ids import new_id
from shared.security.permissions import Permission
from tests.integration.control_plane.callers import Caller, World

READ_KEYS = ["cadence:org:llm-configs:read"]


class Roles:
    """Makes and gives roles as the sys_admin."""

    def __init__(self, root: Caller) -> None:
        self.root = root

    async def make(self, permissions: list[str], scope: str = "organization", name: str | None = None) -> str:
        body = {"name": name or f"role {new_id()}", "scope": scope, "permissions": permissions}
        answer = await self.root.post("/api/admin/roles", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def give(self, role_id: str, caller: Caller, org_id: str | None = None) -> httpx.Response:
        body: dict[str, Any] = {"user_id": str(caller.user_id)} | ({"org_id": org_id} if org_id else {})
        return await self.root.post(f"/api/admin/roles/{role_id}/users", body)

    async def take(self, role_id: str, caller: Caller, org_id: str | None = None) -> httpx.Response:
        params = {"user_id": str(caller.user_id)} | ({"org_id": org_id} if org_id else {})
        return await self.root.delete(f"/api/admin/roles/{role_id}/users", params=params)


@pytest.fixture
def roles(root: Caller) -> Roles:
    return Roles(root)


async def test_a_role_counts_on_the_very_next_request_and_so_does_its_end(world: World, roles: Roles) -> None:
    tenant = await world.tenant()
    keys = f"{tenant.path}/llm-configs"
    role_id = await roles.make(READ_KEYS)
    assert (await tenant.member.get(keys)).status_code == 403

    assert (await roles.give(role_id, tenant.member, tenant.org_id)).status_code == 201
    assert (await tenant.member.get(keys)).status_code == 200
    assert (await tenant.member.post(keys, {"name": "k", "provider": "openai", "api_key": "sk-1"})).status_code == 403

    changed = await roles.root.patch(f"/api/admin/roles/{role_id}", {"permissions": ["cadence:org:stats:read"]})
    assert changed.json()["permissions"] == ["cadence:org:stats:read"]
    assert (await tenant.member.get(keys)).status_code == 403

    await roles.root.patch(f"/api/admin/roles/{role_id}", {"permissions": READ_KEYS})
    assert (await tenant.member.get(keys)).status_code == 200
    assert (await roles.take(role_id, tenant.member, tenant.org_id)).status_code == 204
    assert (await tenant.member.get(keys)).status_code == 403
    assert (await roles.take(role_id, tenant.member, tenant.org_id)).status_code == 404


async def test_a_role_of_one_organization_is_nothing_in_another(world: World, roles: Roles) -> None:
    here, there = await world.tenant(), await world.tenant()
    await roles.root.post(f"{there.path}/members", {"user_id": str(here.member.user_id)})
    role_id = await roles.make(READ_KEYS)

    await roles.give(role_id, here.member, here.org_id)

    assert (await here.member.get(f"{here.path}/llm-configs")).status_code == 200
    assert (await here.member.get(f"{there.path}/llm-configs")).status_code == 403
    assert (await there.member.get(f"{here.path}/llm-configs")).status_code == 404


async def test_whoever_leaves_an_organization_leaves_its_roles_there(world: World, roles: Roles) -> None:
    tenant = await world.tenant()
    role_id = await roles.make(READ_KEYS)
    await roles.give(role_id, tenant.member, tenant.org_id)

    await tenant.admin.delete(f"{tenant.path}/users/{tenant.member.user_id}")
    assert (await tenant.member.get(f"{tenant.path}/llm-configs")).status_code == 404
    await tenant.admin.post(f"{tenant.path}/members", {"user_id": str(tenant.member.user_id)})

    assert (await tenant.member.get(f"{tenant.path}/llm-configs")).status_code == 403
    assert (await roles.root.delete(f"/api/admin/roles/{role_id}")).status_code == 204


async def test_a_role_of_the_system_reaches_into_every_organization_only_for_what_it_holds(
    world: World, roles: Roles
) -> None:
    tenant, support = await world.tenant(), await world.user()
    role_id = await roles.make([*READ_KEYS, "cadence:system:users:read"], "system")
    config = {"name": "k", "provider": "openai", "api_key": "sk-0123456789"}
    config_id = (await tenant.admin.post(f"{tenant.path}/llm-configs", config)).json()["id"]

    assert (await roles.give(role_id, support)).status_code == 201

    assert (await support.get("/api/admin/users")).status_code == 200
    assert (await support.get("/api/admin/roles")).status_code == 403
    assert (await support.get(f"{tenant.path}/llm-configs/{config_id}")).status_code == 200
    # What it does not hold there looks like an organization that does not exist.
    for org_id in (tenant.org_id, str(new_id())):
        assert (await support.get(f"/api/orgs/{org_id}/users")).status_code == 404
    assert (await support.get(f"/api/orgs/{new_id()}/llm-configs")).status_code == 404


async def test_nobody_gives_what_they_do_not_hold(world: World, roles: Roles) -> None:
    keeper, other = await world.user(), await world.user()
    keeping = await roles.make(["cadence:system:roles:read", "cadence:system:roles:write"], "system")
    strong = await roles.make(["cadence:system:admin"], "system")
    weak = await roles.make(["cadence:system:roles:read"], "system")
    await roles.give(keeping, keeper)

    body = {"name": "more", "scope": "system", "permissions": ["cadence:system:users:write"]}
    assert (await keeper.post("/api/admin/roles", body)).status_code == 403
    more = {"permissions": ["cadence:system:roles:read", "cadence:system:admin"]}
    assert (await keeper.patch(f"/api/admin/roles/{weak}", more)).status_code == 403
    give = {"user_id": str(keeper.user_id)}
    assert (await keeper.post(f"/api/admin/roles/{strong}/users", give)).status_code == 403
    assert (await keeper.post(f"/api/admin/roles/{weak}/users", {"user_id": str(other.user_id)})).status_code == 201
    assert (await other.get("/api/admin/roles")).status_code == 200


async def test_a_role_that_stands_for_everything_does(world: World, roles: Roles) -> None:
    tenant, second = await world.tenant(), await world.user()
    strong = await roles.make(["cadence:system:admin"], "system")

    await roles.give(strong, second)

    assert (await second.get(f"/api/admin/orgs/{tenant.org_id}")).status_code == 200
    assert (await second.get(f"{tenant.path}/users")).status_code == 200
    assert len((await second.get("/api/orgs")).json()["items"]) == 1


async def test_whoever_looks_after_users_cannot_become_one_who_may_do_more(world: World, roles: Roles) -> None:
    keeper, plain = await world.user(), await world.user()
    role_id = await roles.make(["cadence:system:users:read", "cadence:system:users:write"], "system")
    await roles.give(role_id, keeper)
    password = {"password": "a new password"}
    root = f"/api/admin/users/{roles.root.user_id}"

    assert (await keeper.patch(root, password)).status_code == 403
    assert (await keeper.delete(root)).status_code == 403
    assert (await keeper.patch(f"/api/admin/users/{plain.user_id}", password)).status_code == 200
    assert (await keeper.patch(f"/api/admin/users/{new_id()}", password)).status_code == 404
    await world.log_in("root")


async def test_whoever_looks_after_members_does_not_say_who_is_admin(world: World, roles: Roles) -> None:
    tenant = await world.tenant()
    newcomer = await world.user()
    role_id = await roles.make(["cadence:org:members:read", "cadence:org:members:write"])
    await roles.give(role_id, tenant.member, tenant.org_id)
    me, admin = (f"{tenant.path}/users/{c.user_id}" for c in (tenant.member, tenant.admin))

    add = {"user_id": str(newcomer.user_id)}
    assert (await tenant.member.post(f"{tenant.path}/members", {**add, "is_admin": True})).status_code == 403
    assert (await tenant.member.post(f"{tenant.path}/members", add)).status_code == 201
    assert (await tenant.member.patch(f"{me}/membership", {"is_admin": True})).status_code == 403
    assert (await tenant.member.patch(f"{admin}/membership", {"is_admin": False})).status_code == 403
    assert (await tenant.member.delete(admin)).status_code == 403
    assert (await tenant.admin.get(f"{tenant.path}/users")).status_code == 200


async def test_built_in_roles_come_first_and_never_change(world: World, roles: Roles) -> None:
    role_id = await roles.make(READ_KEYS, name="Key reader")
    listed = (await roles.root.get("/api/admin/roles?limit=2")).json()
    rest = (await roles.root.get(f"/api/admin/roles?cursor={listed['next_cursor']}")).json()
    items = [*listed["items"], *rest["items"]]
    assert [(r["name"], r["is_built_in"]) for r in items] == [
        ("sys_admin", True),
        ("org_admin", True),
        ("user", True),
        ("Key reader", False),
    ]
    assert (await roles.root.get(f"/api/admin/roles/{items[0]['id']}")).json()["permissions"] == sorted(Permission)
    caller = await world.user()
    for role in items[:3]:
        path = f"/api/admin/roles/{role['id']}"
        assert (await roles.root.patch(path, {"name": "mine"})).status_code == 409
        assert (await roles.root.delete(path)).status_code == 409
        assert (await roles.give(role["id"], caller)).status_code == 409
    assert (await roles.root.get(f"/api/admin/roles/{role_id}")).headers["etag"]


async def test_a_role_that_is_held_stays_until_it_is_not(world: World, roles: Roles) -> None:
    caller = await world.user()
    role_id = await roles.make(["cadence:system:health:read"], "system")
    await roles.give(role_id, caller)
    path = f"/api/admin/roles/{role_id}"

    assert (await roles.root.delete(path)).status_code == 409
    holders = (await roles.root.get(f"{path}/users")).json()["items"]
    assert [(h["user_id"], h["org_id"]) for h in holders] == [(str(caller.user_id), None)]
    assert (await roles.give(role_id, caller)).status_code == 409

    assert (await roles.root.delete(f"/api/admin/users/{caller.user_id}")).status_code == 204
    assert (await roles.root.delete(path)).status_code == 204
    assert (await roles.root.get(path)).status_code == 404


async def test_what_cannot_be_a_role(world: World, roles: Roles) -> None:
    tenant, stranger = await world.tenant(), await world.user()
    of_org, of_system = await roles.make(READ_KEYS, name="Taken"), await roles.make(READ_KEYS, "system")
    body = {"name": "r", "scope": "organization", "permissions": READ_KEYS}

    for broken in (
        {**body, "permissions": ["cadence:system:users:read"]},
        {**body, "permissions": ["cadence:nothing"]},
        {**body, "permissions": []},
        {**body, "scope": "planet"},
        {**body, "name": " "},
    ):
        assert (await roles.root.post("/api/admin/roles", broken)).status_code == 422, broken
    assert (await roles.root.post("/api/admin/roles", {**body, "name": "taken"})).status_code == 409
    assert (await roles.give(of_org, tenant.member)).status_code == 422
    assert (await roles.give(of_system, tenant.member, tenant.org_id)).status_code == 422
    # Not a member there, which is the same as an organization or a user that does not exist.
    assert (await roles.give(of_org, stranger, tenant.org_id)).status_code == 404
    assert (await roles.give(of_org, tenant.member, str(new_id()))).status_code == 404
    assert (await roles.give(str(new_id()), tenant.member, tenant.org_id)).status_code == 404


async def test_a_stale_change_of_a_role_is_refused(roles: Roles) -> None:
    role_id = await roles.make(READ_KEYS)
    path = f"/api/admin/roles/{role_id}"
    first = (await roles.root.get(path)).headers["etag"]
    assert (await roles.root.patch(path, {"description": "new"}, headers={"If-Match": first})).status_code == 200

    assert (await roles.root.patch(path, {"description": "old"}, headers={"If-Match": first})).status_code == 412
    assert (await roles.root.delete(path, headers={"If-Match": first})).status_code == 412


async def test_every_permission_is_listed_with_the_roles_that_hold_it(roles: Roles) -> None:
    listed = {p["permission"]: p for p in (await roles.root.get("/api/admin/permissions")).json()["items"]}

    assert set(listed) == set(Permission)
    assert listed["cadence:chat:use"]["built_in_roles"] == ["sys_admin", "org_admin", "user"]
    assert listed["cadence:system:users:read"]["is_of_system"] is True


async def test_roles_are_not_an_org_admins_business(world: World, roles: Roles) -> None:
    tenant = await world.tenant()
    role_id = await roles.make(READ_KEYS)

    for method, path in (
        ("GET", "/api/admin/roles"),
        ("GET", "/api/admin/permissions"),
        ("GET", f"/api/admin/roles/{role_id}"),
        ("GET", f"/api/admin/roles/{role_id}/users"),
        ("DELETE", f"/api/admin/roles/{role_id}"),
    ):
        assert (await tenant.admin.call(method, path)).status_code == 403, path
