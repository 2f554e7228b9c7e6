"""Membership, and how soon a change of it counts."""

import asyncio

from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World


async def test_a_new_member_is_let_in_on_the_next_request(world: World) -> None:
    tenant, outsider = await world.tenant(), await world.user()
    assert (await outsider.get(tenant.path)).status_code == 404

    added = await tenant.admin.post(f"{tenant.path}/members", {"user_id": str(outsider.user_id)})

    assert added.status_code == 201
    assert added.json()["is_admin"] is False
    assert (await outsider.get(tenant.path)).json()["role"] == "user"


async def test_a_changed_role_counts_on_the_next_request(world: World) -> None:
    tenant = await world.tenant()
    path = f"{tenant.path}/users/{tenant.member.user_id}/membership"
    assert (await tenant.member.get(f"{tenant.path}/users")).status_code == 403

    promoted = await tenant.admin.patch(path, {"is_admin": True})
    assert promoted.json()["is_admin"] is True
    assert (await tenant.member.get(f"{tenant.path}/users")).status_code == 200

    await tenant.admin.patch(path, {"is_admin": False})
    assert (await tenant.member.get(f"{tenant.path}/users")).status_code == 403


async def test_a_removed_member_is_out_on_the_next_request(world: World) -> None:
    tenant = await world.tenant()

    assert (await tenant.admin.delete(f"{tenant.path}/users/{tenant.member.user_id}")).status_code == 204

    assert (await tenant.member.get(tenant.path)).status_code == 404
    assert (await tenant.member.get("/api/me")).status_code == 200
    assert (await tenant.admin.delete(f"{tenant.path}/users/{tenant.member.user_id}")).status_code == 404


async def test_nobody_is_added_twice_and_nobody_unknown(world: World) -> None:
    tenant = await world.tenant()

    again = await tenant.admin.post(f"{tenant.path}/members", {"user_id": str(tenant.member.user_id)})
    unknown = await tenant.admin.post(f"{tenant.path}/members", {"user_id": str(new_id())})

    assert [again.status_code, unknown.status_code] == [409, 404]


async def test_the_last_admin_stays(world: World) -> None:
    tenant = await world.tenant()
    path = f"{tenant.path}/users/{tenant.admin.user_id}"

    demoted = await tenant.admin.patch(f"{path}/membership", {"is_admin": False})
    removed = await tenant.admin.delete(path)

    assert [(a.status_code, a.json()["code"]) for a in (demoted, removed)] == [(409, "RE-0007")] * 2
    assert (await tenant.admin.get(f"{tenant.path}/users")).status_code == 200


async def test_two_admins_cannot_remove_each_other_at_once(world: World) -> None:
    tenant = await world.tenant()
    other = await world.member(tenant.org_id, is_admin=True)

    answers = await asyncio.gather(
        tenant.admin.delete(f"{tenant.path}/users/{other.user_id}"),
        other.delete(f"{tenant.path}/users/{tenant.admin.user_id}"),
    )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([204, 404], [204, 409], [204, 403])
    survivor = other if answers[1].status_code == 204 else tenant.admin
    assert (await survivor.get(f"{tenant.path}/users")).status_code == 200


async def test_a_stale_membership_change_is_refused(world: World) -> None:
    tenant = await world.tenant()
    path = f"{tenant.path}/users/{tenant.member.user_id}"
    old = {"If-Match": (await tenant.admin.get(path)).headers["etag"]}
    await tenant.admin.patch(f"{path}/membership", {"is_admin": True}, headers=old)

    assert (await tenant.admin.patch(f"{path}/membership", {"is_admin": False}, headers=old)).status_code == 412
    assert (await tenant.admin.delete(path, headers=old)).status_code == 412


async def test_members_are_paged(world: World) -> None:
    tenant = await world.tenant()

    first = (await tenant.admin.get(f"{tenant.path}/users?limit=1")).json()
    second = (await tenant.admin.get(f"{tenant.path}/users?limit=1&cursor={first['next_cursor']}")).json()

    assert [m["username"] for m in first["items"] + second["items"]] == [
        tenant.admin.username,
        tenant.member.username,
    ]
    assert second["next_cursor"] is None


async def test_members_need_an_admin(world: World, root: Caller) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    body = {"user_id": str(other.member.user_id)}

    assert (await tenant.member.post(f"{tenant.path}/members", body)).status_code == 403
    assert (await root.post(f"{tenant.path}/members", body)).status_code == 201
