"""How fast and how much: met at the control plane, set by those who may, and seen in the quota."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from control_plane.wiring import Resources
from shared.clock import SystemClock
from shared.ids import new_id
from shared.limits import keys
from tests.integration.control_plane.callers import Caller, Tenant, World

RATES = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


async def slow_down(root: Caller, tenant: Tenant, **limits: int) -> None:
    """Give the organization a tier with these limits."""
    assert (await root.patch("/api/admin/tiers/pro", limits)).status_code == 200
    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"tier": "pro"})


async def test_whoever_is_too_fast_is_told_when_to_come_back(world: World, root: Caller) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    await slow_down(root, tenant, requests_per_minute=1, request_burst=2)

    answers = [await tenant.admin.get(tenant.path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    refused = answers[-1]
    assert (refused.json()["code"], refused.headers["ratelimit-limit"]) == ("RL-0001", "2")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert all(len(refused.headers.get_list(name)) == 1 for name in RATES)
    # The organization's members share what it may; nobody else is any slower for it.
    assert (await tenant.member.get(tenant.path)).status_code == 429
    assert (await other.admin.get(other.path)).status_code == 200
    assert (await tenant.admin.get("/api/me")).status_code == 200


async def test_strangers_and_those_who_look_after_it_use_nothing_of_an_organizations_rate(
    world: World, root: Caller, http: httpx.AsyncClient
) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    await slow_down(root, tenant, requests_per_minute=1, request_burst=1)

    for _ in range(3):
        assert (await other.admin.get(tenant.path)).status_code == 404
        assert (await http.get(tenant.path)).status_code == 401
        assert (await root.get(tenant.path)).status_code == 200

    assert (await tenant.admin.get(tenant.path)).status_code == 200
    # Who has no place learns nothing of it either: not found, never too fast.
    assert (await other.admin.get(tenant.path)).status_code == 404


async def test_an_edited_tier_and_another_tier_count_on_the_next_request(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    await slow_down(root, tenant, requests_per_minute=1, request_burst=1)
    assert [(await tenant.admin.get(tenant.path)).status_code for _ in range(2)] == [200, 429]

    await root.patch("/api/admin/tiers/pro", {"requests_per_minute": None})
    assert (await tenant.admin.get(tenant.path)).status_code == 200

    await root.patch("/api/admin/tiers/plus", {"requests_per_minute": 1, "request_burst": 1})
    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"tier": "plus"})
    assert (await tenant.admin.get(tenant.path)).status_code == 429


async def test_a_suspended_organization_is_refused_as_before(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    await slow_down(root, tenant, requests_per_minute=1, request_burst=1)
    await tenant.admin.get(tenant.path)

    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"status": "suspended"})

    assert (await tenant.admin.get(tenant.path)).json()["code"] == "AZ-0002"


async def test_outside_of_organizations_a_caller_has_a_rate_of_their_own(
    world: World, resources: Resources, http: httpx.AsyncClient
) -> None:
    slow, quick = await world.user(), await world.user()
    resources.limiter._requests_per_minute = 2

    assert [(await slow.get("/api/me")).status_code for _ in range(3)] == [200, 200, 429]
    assert (await quick.get("/api/me")).status_code == 200
    # A request without a session cannot be counted against anybody.
    assert (await http.get("/api/me")).status_code == 401


async def test_the_quota_shows_what_was_used_beside_what_is_allowed(
    world: World, root: Caller, resources: Resources
) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    path = f"/api/admin/orgs/{tenant.org_id}"
    await root.patch(path, {"tier": "plus", "budget_per_month": 12.5})
    now = SystemClock().now()
    used: dict[Any, Any] = {"seeded": 1, "messages": 9, f"messages:{now:%d}": 2, "tokens": 700, "micros": 1_250_000}
    await resources.redis.hset(keys.spent(UUID(tenant.org_id), now), mapping=used)

    quota = (await root.get(f"{path}/quota")).json()

    assert quota["messages_per_month"] == {"used": 9, "limit": 5_000}
    assert quota["messages_per_day"] == {"used": 2, "limit": 500}
    assert quota["tokens_per_month"] == {"used": 700, "limit": 25_000_000}
    assert quota["budget_per_month"] == {"used": 1.25, "limit": 12.5}
    theirs = (await root.get(f"/api/admin/orgs/{other.org_id}/quota")).json()
    assert (theirs["messages_per_month"]["used"], theirs["budget_per_month"]) == (0, {"used": 0.0, "limit": None})


async def test_budgets_are_set_taken_away_and_reach_the_workers(
    world: World, root: Caller, resources: Resources, http: httpx.AsyncClient
) -> None:
    tenant = await world.tenant()
    path = f"/api/admin/orgs/{tenant.org_id}"
    token = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}

    shown = (await root.patch(path, {"budget_per_month": 0.1})).json()
    assert shown["budget_per_month"] == 0.1
    limits = (await http.get(f"/internal/limits/{tenant.org_id}", headers=token)).json()
    assert (limits["budget_micros"], limits["requests_per_minute"]) == (100_000, 1_000)
    assert (await root.patch(path, {"budget_per_month": -1})).status_code == 422
    assert (await root.patch(path, {"budget_per_month": None})).json()["budget_per_month"] is None
    assert (await tenant.admin.patch(f"{tenant.path}/profile", {"budget_per_month": 9})).status_code == 422
    assert (await http.get(f"/internal/limits/{new_id()}", headers=token)).status_code == 404


async def test_a_key_is_made_with_a_budget_which_its_owner_changes_and_the_key_itself_does_not(world: World) -> None:
    tenant = await world.tenant()
    body = {"name": "budgeted", "scopes": ["cadence:chat:use", "cadence:profile:write"], "budget_per_month": 2.0}
    made = (await tenant.member.post("/api/me/api-keys", body)).json()
    path = f"/api/me/api-keys/{made['api_key']['id']}"
    program = {"X-API-KEY": made["key"]}

    changed = await tenant.member.patch(path, {"budget_per_month": 3.5, "name": "more"})

    assert made["api_key"]["budget_per_month"] == 2.0
    assert (changed.json()["budget_per_month"], changed.json()["name"]) == (3.5, "more")
    by_itself = await tenant.member.http.patch(path, json={"budget_per_month": 100}, headers=program)
    assert by_itself.status_code == 403
    assert (await tenant.admin.patch(path, {"budget_per_month": 100})).status_code == 404
    rotated = (await tenant.member.post(f"{path}/rotate", {})).json()
    assert rotated["api_key"]["budget_per_month"] == 3.5


@pytest.mark.parametrize("when", ["open", "closed"])
async def test_while_redis_takes_no_writes_requests_pass_or_not_as_it_was_set(
    world: World, root: Caller, resources: Resources, http: httpx.AsyncClient, when: Any
) -> None:
    tenant = await world.tenant()
    await tenant.admin.get(tenant.path)
    resources.limiter.when_uncounted = when
    await resources.redis.config_set("min-replicas-to-write", 1)
    try:
        answer = await tenant.admin.get(tenant.path)
        health = (await http.get("/health/ready")).json()
    finally:
        await resources.redis.config_set("min-replicas-to-write", 0)

    assert (answer.status_code, answer.json().get("code")) == ((200, None) if when == "open" else (503, "DB-0001"))
    assert health["dependencies"]["limits"]["state"] == "down"
