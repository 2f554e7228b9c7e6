"""The caller's own account."""

from tests.integration.control_plane.callers import PASSWORD, World


async def test_me_tells_who_i_am_and_where_i_belong(world: World) -> None:
    tenant = await world.tenant()
    await world.tenant()

    me = await tenant.member.get("/api/me")
    mine = await tenant.member.get("/api/me/orgs")

    assert me.json() == {
        "user_id": str(tenant.member.user_id),
        "username": tenant.member.username,
        "email": None,
        "display_name": None,
        "is_sys_admin": False,
    }
    assert [(o["org_id"], o["role"]) for o in mine.json()["items"]] == [(tenant.org_id, "user")]


async def test_my_profile_keeps_what_i_do_not_mention(world: World) -> None:
    caller = await world.user(email="first@example.com", display_name="First")

    changed = await caller.patch("/api/me/profile", {"display_name": None})

    assert changed.status_code == 200
    assert (changed.json()["email"], changed.json()["display_name"]) == ("first@example.com", None)


async def test_a_new_password_needs_the_current_one(world: World) -> None:
    caller = await world.user()
    new = {"new_password": "a new password"}

    missing = await caller.patch("/api/me/profile", new)
    wrong = await caller.patch("/api/me/profile", {**new, "current_password": "a guess"})

    assert [missing.status_code, wrong.status_code] == [422, 422]
    assert missing.json()["errors"][0]["field"] == wrong.json()["errors"][0]["field"] == "current_password"
    await world.log_in(caller.username)


async def test_guessing_the_current_password_is_throttled(world: World) -> None:
    caller = await world.user()
    body = {"new_password": "a new password", "current_password": "a guess"}

    statuses = [(await caller.patch("/api/me/profile", body)).status_code for _ in range(11)]

    assert statuses == [422] * 10 + [429]


async def test_a_new_password_ends_my_other_sessions(world: World) -> None:
    caller = await world.user()
    elsewhere = await world.log_in(caller.username)

    body = {"current_password": PASSWORD, "new_password": "a new password"}
    assert (await caller.patch("/api/me/profile", body)).status_code == 200

    assert (await elsewhere.get("/api/me")).status_code == 401
    assert (await caller.get("/api/me")).status_code == 200
    await world.log_in(caller.username, "a new password")


async def test_nobody_makes_themselves_sys_admin(world: World) -> None:
    caller = await world.user()

    refused = await caller.patch("/api/me/profile", {"is_sys_admin": True})

    assert refused.status_code == 422
    assert (await caller.get("/api/me")).json()["is_sys_admin"] is False
