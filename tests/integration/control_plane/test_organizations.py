"""Tenants: who sees them, what suspension and deletion do."""

import asyncio

from sqlalchemy import select

from control_plane.events.tables import OutboxEvent
from control_plane.orchestrators.tables import Orchestrator
from control_plane.wiring import Resources
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_llm_configs import id_in, stored, use


async def test_an_organization_is_created_with_the_defaults_of_the_contract(root: Caller) -> None:
    created = await root.post(
        "/api/admin/orgs", {"name": "Acme", "domain": "acme.example", "timezone": "Europe/Berlin"}
    )

    assert created.status_code == 201
    body = created.json()
    assert (body["status"], body["tier"], body["timezone"]) == ("active", "free", "Europe/Berlin")
    shown = await root.get(f"/api/admin/orgs/{body['org_id']}")
    assert shown.json() == body
    assert shown.headers["etag"] == created.headers["etag"]


async def test_a_domain_belongs_to_one_living_organization(root: Caller) -> None:
    first = await root.post("/api/admin/orgs", {"name": "A", "domain": "a.example"})

    taken = await root.post("/api/admin/orgs", {"name": "B", "domain": "a.example"})
    assert taken.status_code == 409
    assert taken.json()["errors"] == [{"field": "domain", "code": "taken", "message": "this domain is taken"}]

    await root.delete(f"/api/admin/orgs/{first.json()['org_id']}")
    assert (await root.post("/api/admin/orgs", {"name": "B", "domain": "a.example"})).status_code == 201


async def test_everybody_lists_their_own_and_a_sys_admin_all(world: World, root: Caller) -> None:
    first, second = await world.tenant(), await world.tenant()

    def roles(answer: list[dict[str, str]]) -> list[tuple[str, str]]:
        return [(o["org_id"], o["role"]) for o in answer]

    assert roles((await first.admin.get("/api/orgs")).json()["items"]) == [(first.org_id, "org_admin")]
    assert roles((await second.member.get("/api/orgs")).json()["items"]) == [(second.org_id, "user")]
    assert roles((await root.get("/api/orgs")).json()["items"]) == [
        (first.org_id, "sys_admin"),
        (second.org_id, "sys_admin"),
    ]


async def test_pages_hold_every_organization_once(world: World, root: Caller) -> None:
    ids = [await world.organization() for _ in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = (await root.get("/api/admin/orgs", params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen.extend(o["org_id"] for o in page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == ids


async def test_an_org_admin_changes_the_profile_and_nothing_else(world: World) -> None:
    tenant = await world.tenant()

    changed = await tenant.admin.patch(f"{tenant.path}/profile", {"display_name": "Us", "country": "DE"})
    refused = await tenant.admin.patch(f"{tenant.path}/profile", {"tier": "enterprise"})

    assert changed.status_code == 200
    assert (changed.json()["display_name"], changed.json()["role"]) == ("Us", "org_admin")
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "tier", "code": "unknown", "message": "this field is not known"}]
    assert (await tenant.member.patch(f"{tenant.path}/profile", {"display_name": "Me"})).status_code == 403


async def test_suspension_stops_members_at_once_and_sys_admins_not_at_all(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    assert (await tenant.member.get(tenant.path)).status_code == 200

    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"status": "suspended"})

    for caller in (tenant.admin, tenant.member):
        refused = await caller.get(tenant.path)
        assert (refused.status_code, refused.json()["code"]) == (403, "AZ-0002")
        assert (await caller.get("/api/me/orgs")).json()["items"][0]["status"] == "suspended"
    assert (await root.get(tenant.path)).status_code == 200

    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"status": "active"})
    assert (await tenant.member.get(tenant.path)).status_code == 200


async def test_a_deleted_organization_is_gone_for_everybody(world: World, root: Caller) -> None:
    tenant = await world.tenant()

    assert (await root.delete(f"/api/admin/orgs/{tenant.org_id}")).status_code == 204

    for caller in (tenant.admin, tenant.member, root):
        assert (await caller.get(tenant.path)).status_code == 404
        assert (await caller.get("/api/orgs")).json()["items"] == []
    assert (await root.get(f"/api/admin/orgs/{tenant.org_id}")).status_code == 404


async def test_workers_drop_what_a_deleted_organization_ran(world: World, root: Caller, resources: Resources) -> None:
    tenant = await world.tenant()
    instance_id = await use(resources, tenant, id_in(await stored(tenant)))

    await root.delete(f"/api/admin/orgs/{tenant.org_id}")

    async with resources.database() as session:
        instance = await session.get_one(Orchestrator, instance_id)
        events = (await session.execute(select(OutboxEvent.routing_key))).scalars().all()
    assert (instance.is_deleted, instance.status) == (True, "inactive")
    assert events == ["orchestrator.unload"]


async def test_the_quota_counts_what_is_really_there(world: World, root: Caller, resources: Resources) -> None:
    tenant = await world.tenant()
    await stored(tenant, name="spare")
    await use(resources, tenant, id_in(await stored(tenant)))
    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"tier": "pro"})

    quota = await root.get(f"/api/admin/orgs/{tenant.org_id}/quota")

    assert quota.json() == {
        "tier": "pro",
        "orchestrators": {"used": 1, "limit": 10},
        "members": {"used": 2, "limit": 25},
        "llm_configs": {"used": 2, "limit": 10},
        "central_points": {"used": 0, "limit": 10},
        "plugins": {"used": 0, "limit": 50},
        "concurrent_runs": {"used": 0, "limit": 20},
        "messages_per_day": {"used": 0, "limit": 2_500},
        "messages_per_month": {"used": 0, "limit": 25_000},
        "tokens_per_day": {"used": 0, "limit": 12_500_000},
        "tokens_per_month": {"used": 0, "limit": 125_000_000},
        "budget_per_month": {"used": 0.0, "limit": None},
        "requests_per_minute": 60,
        "request_burst": 120,
        "chats_per_minute": 30,
        "member_requests_per_minute": None,
    }
    assert (await tenant.admin.get(f"/api/admin/orgs/{tenant.org_id}/quota")).status_code == 403


async def test_a_change_meant_for_an_older_revision_is_refused(world: World, root: Caller) -> None:
    path = f"/api/admin/orgs/{await world.organization()}"
    old = (await root.get(path)).headers["etag"]

    assert (await root.patch(path, {"name": "One"}, headers={"If-Match": old})).status_code == 200
    stale = await root.patch(path, {"name": "Two"}, headers={"If-Match": old})
    stale_delete = await root.delete(path, headers={"If-Match": old})

    assert [stale.status_code, stale_delete.status_code] == [412, 412]
    assert stale.json()["code"] == "RE-0004"
    assert (await root.get(path)).json()["name"] == "One"


async def test_of_concurrent_changes_of_one_revision_exactly_one_wins(world: World, root: Caller) -> None:
    path = f"/api/admin/orgs/{await world.organization()}"
    headers = {"If-Match": (await root.get(path)).headers["etag"]}

    answers = await asyncio.gather(*(root.patch(path, {"name": f"N{n}"}, headers=headers) for n in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412, 412]
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert (await root.get(path)).json()["name"] == winner.json()["name"]


async def test_concurrent_changes_of_different_fields_are_all_kept(world: World, root: Caller) -> None:
    path = f"/api/admin/orgs/{await world.organization()}"
    changes = {"name": "N", "display_name": "D", "description": "T", "country": "FR", "tier": "pro"}

    await asyncio.gather(*(root.patch(path, {name: value}) for name, value in changes.items()))

    shown = (await root.get(path)).json()
    assert {name: shown[name] for name in changes} == changes
