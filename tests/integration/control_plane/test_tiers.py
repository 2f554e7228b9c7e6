"""What a tier allows: shown, edited, and kept also when many ask for the last place at once."""

import asyncio

import pytest

from control_plane.wiring import Resources
from tests.integration.control_plane.callers import Caller, Tenant, World
from tests.integration.control_plane.test_llm_configs import stored
from tests.integration.control_plane.workshop import Workshop, add_plugin

NUMBERS = (
    "orchestrators",
    "members",
    "messages_per_month",
    "messages_per_day",
    "requests_per_minute",
    "request_burst",
    "llm_configs",
)


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


async def allow(root: Caller, tenant: Tenant, **limits: int | None) -> None:
    """Give the organization a tier with these limits."""
    assert (await root.patch("/api/admin/tiers/pro", limits)).status_code == 200
    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"tier": "pro"})


async def test_the_tiers_come_with_the_numbers_of_the_price_list(root: Caller) -> None:
    listed = (await root.get("/api/admin/tiers")).json()["items"]

    assert {tier["name"]: tuple(tier[name] for name in NUMBERS) for tier in listed} == {
        "free": (1, 3, 500, 50, 10, 20, 1),
        "plus": (3, 10, 5_000, 500, 30, 60, 3),
        "pro": (10, 25, 25_000, 2_500, 60, 120, 10),
        "premium": (25, 100, 100_000, 10_000, 120, 240, 25),
        "business": (100, 500, 500_000, 50_000, 300, 600, 100),
        "enterprise": (None, None, None, None, 1_000, 2_000, None),
    }


async def test_a_tier_is_edited_by_whoever_may_and_by_nobody_else(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    path = "/api/admin/tiers/free"
    shown = await root.get(path)

    changed = await root.patch(path, {"members": None, "plugins": 7}, headers={"If-Match": shown.headers["etag"]})

    assert changed.status_code == 200
    assert (changed.json()["members"], changed.json()["plugins"], changed.json()["llm_configs"]) == (None, 7, 1)
    stale = await root.patch(path, {"members": 1}, headers={"If-Match": shown.headers["etag"]})
    assert stale.status_code == 412
    assert (await root.patch(path, {"members": -1})).status_code == 422
    assert (await root.patch("/api/admin/tiers/gold", {"members": 1})).status_code == 404
    assert [(await tenant.admin.get(path)).status_code, (await tenant.admin.patch(path, {})).status_code] == [403, 403]


async def test_a_full_quota_is_a_conflict_that_names_the_limit(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    await allow(root, tenant, llm_configs=1)
    await stored(tenant)

    refused = await tenant.admin.post(
        f"{tenant.path}/llm-configs", {"name": "one too many", "provider": "openai", "api_key": "sk-made-up-0123"}
    )

    assert (refused.status_code, refused.json()["code"]) == (409, "RL-0002")
    assert refused.json()["detail"] == "the tier pro has room for 1 llm configs"


async def test_of_many_who_ask_at_once_only_as_many_get_one_as_there_is_room_for(world: World, root: Caller) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    await allow(root, tenant, llm_configs=3)
    body = {"provider": "openai", "api_key": "sk-made-up-0123"}

    answers = await asyncio.gather(
        *(tenant.admin.post(f"{tenant.path}/llm-configs", {**body, "name": f"n{number}"}) for number in range(8))
    )

    assert sorted(answer.status_code for answer in answers) == [201, 201, 201, 409, 409, 409, 409, 409]
    assert (await other.admin.post(f"{other.path}/llm-configs", {**body, "name": "theirs"})).status_code == 201


async def test_members_have_a_quota_and_whoever_is_there_already_is_told_so(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    await allow(root, tenant, members=3)
    people = [await world.user() for _ in range(4)]

    answers = await asyncio.gather(
        *(tenant.admin.post(f"{tenant.path}/members", {"user_id": str(person.user_id)}) for person in people)
    )

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    again = await tenant.admin.post(f"{tenant.path}/members", {"user_id": str(tenant.member.user_id)})
    assert again.json()["code"] == "RE-0002"
    person = {"username": "one-more", "password": "a long enough one"}
    assert (await root.post(f"/api/admin/orgs/{tenant.org_id}/users", person)).json()["code"] == "RL-0002"


async def test_a_deactivated_orchestrator_makes_room_for_another(shop: Workshop, root: Caller) -> None:
    tenant = shop.tenant
    await allow(root, tenant, orchestrators=1)
    made = await shop.orchestrator()
    body = shop.body(name="Another one")

    refused = await tenant.admin.post(f"{tenant.path}/orchestrators", body)
    await tenant.admin.delete(shop.at(made))

    assert (refused.status_code, refused.json()["code"]) == (409, "RL-0002")
    assert (await tenant.admin.post(f"{tenant.path}/orchestrators", body)).status_code == 201


async def test_a_plugin_counts_once_in_all_its_versions(world: World, root: Caller, resources: Resources) -> None:
    tenant = await world.tenant()
    await add_plugin(resources, "com.example.one", org_id=tenant.org_id)
    await add_plugin(resources, "com.example.one", version="2.0.0", is_latest=False, org_id=tenant.org_id)

    quota = await root.get(f"/api/admin/orgs/{tenant.org_id}/quota")

    assert quota.json()["plugins"] == {"used": 1, "limit": None}
