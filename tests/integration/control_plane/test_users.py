"""Users, kept by the platform's administrators."""

from tests.integration.control_plane.callers import PASSWORD, Caller, World


async def test_a_user_is_created_listed_changed_and_deleted(world: World, root: Caller) -> None:
    body = {"username": "carol", "password": PASSWORD, "email": "carol@example.com"}
    created = await root.post("/api/admin/users", body)
    assert created.status_code == 201
    assert "password" not in created.text
    path = f"/api/admin/users/{created.json()['user_id']}"

    changed = await root.patch(path, {"display_name": "Carol"})
    assert changed.json()["display_name"] == "Carol"
    assert (await root.get(path)).headers["etag"] == changed.headers["etag"]
    assert [u["username"] for u in (await root.get("/api/admin/users")).json()["items"]] == ["root", "carol"]

    assert (await root.delete(path)).status_code == 204
    assert (await root.get(path)).status_code == 404
    assert [u["username"] for u in (await root.get("/api/admin/users")).json()["items"]] == ["root"]
    # The name is free again.
    assert (await root.post("/api/admin/users", body)).status_code == 201


async def test_usernames_and_emails_are_unique_among_the_living(world: World, root: Caller) -> None:
    await world.user(username="dave", email="dave@example.com")

    same_name = await root.post("/api/admin/users", {"username": "DAVE", "password": PASSWORD})
    same_email = await root.post(
        "/api/admin/users", {"username": "other", "password": PASSWORD, "email": "Dave@Example.com"}
    )

    assert [same_name.status_code, same_email.status_code] == [409, 409]
    assert same_name.json()["errors"][0]["field"] == "username"
    assert same_email.json()["errors"][0]["field"] == "email"


async def test_deleting_a_user_ends_their_sessions_and_memberships_at_once(world: World, root: Caller) -> None:
    tenant = await world.tenant()

    assert (await root.delete(f"/api/admin/users/{tenant.member.user_id}")).status_code == 204

    assert (await tenant.member.get("/api/me")).status_code == 401
    members = (await tenant.admin.get(f"{tenant.path}/users")).json()["items"]
    assert [m["user_id"] for m in members] == [str(tenant.admin.user_id)]


async def test_a_reset_password_ends_the_users_sessions(world: World, root: Caller) -> None:
    caller = await world.user()

    path = f"/api/admin/users/{caller.user_id}"
    assert (await root.patch(path, {"password": "another password"})).status_code == 200

    assert (await caller.get("/api/me")).status_code == 401
    await world.log_in(caller.username, "another password")


async def test_becoming_and_ceasing_to_be_sys_admin_counts_on_the_next_request(world: World, root: Caller) -> None:
    caller = await world.user()
    path = f"/api/admin/users/{caller.user_id}"
    assert (await caller.get("/api/admin/users")).status_code == 403

    await root.patch(path, {"is_sys_admin": True})
    assert (await caller.get("/api/admin/users")).status_code == 200

    await root.patch(path, {"is_sys_admin": False})
    assert (await caller.get("/api/admin/users")).status_code == 403


async def test_the_platform_keeps_a_sys_admin(root: Caller) -> None:
    path = f"/api/admin/users/{root.user_id}"

    assert (await root.delete(path)).status_code == 409
    assert (await root.patch(path, {"is_sys_admin": False})).status_code == 409


async def test_the_last_admin_of_an_organization_cannot_be_deleted(world: World, root: Caller) -> None:
    tenant = await world.tenant()

    refused = await root.delete(f"/api/admin/users/{tenant.admin.user_id}")

    assert refused.status_code == 409
    assert refused.json()["code"] == "RE-0007"
    assert (await tenant.admin.get(tenant.path)).status_code == 200


async def test_a_user_created_in_an_organization_belongs_to_it(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    body = {"username": "erin", "password": PASSWORD, "is_admin": True}

    created = await root.post(f"/api/admin/orgs/{tenant.org_id}/users", body)

    assert created.status_code == 201
    assert (created.json()["username"], created.json()["is_admin"]) == ("erin", True)
    erin = await world.log_in("erin")
    assert (await erin.get(tenant.path)).json()["role"] == "org_admin"


async def test_users_are_for_sys_admins_only(world: World) -> None:
    tenant = await world.tenant()

    for caller in (tenant.admin, tenant.member):
        assert (await caller.get("/api/admin/users")).status_code == 403
        assert (await caller.post("/api/admin/users", {"username": "x", "password": PASSWORD})).status_code == 403
