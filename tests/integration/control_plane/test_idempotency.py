"""`Idempotency-Key`: sent twice, done once."""

import asyncio
import hashlib

from control_plane.wiring import Resources
from tests.integration.control_plane.callers import Caller, World

BODY = {"name": "Acme"}
KEY = {"Idempotency-Key": "try-1"}


async def names(root: Caller) -> list[str]:
    return [o["name"] for o in (await root.get("/api/admin/orgs")).json()["items"]]


async def test_a_repeated_request_is_answered_but_not_done_again(root: Caller) -> None:
    first = await root.post("/api/admin/orgs", BODY, headers=KEY)
    second = await root.post("/api/admin/orgs", BODY, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert second.headers["etag"] == first.headers["etag"]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    assert await names(root) == ["Acme"]


async def test_two_at_once_are_done_once(root: Caller) -> None:
    answers = await asyncio.gather(*(root.post("/api/admin/orgs", BODY, headers=KEY) for _ in range(5)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["org_id"] for answer in answers if answer.status_code == 201}) == 1
    assert await names(root) == ["Acme"]


async def test_a_key_is_for_one_request_and_one_caller(world: World, root: Caller) -> None:
    await root.post("/api/admin/orgs", BODY, headers=KEY)
    other = await world.user(is_sys_admin=True)

    reused = await root.post("/api/admin/orgs", {"name": "Different"}, headers=KEY)
    of_another = await other.post("/api/admin/orgs", BODY, headers=KEY)

    assert (reused.status_code, reused.json()["code"]) == (409, "VA-0006")
    assert of_another.status_code == 201
    assert await names(root) == ["Acme", "Acme"]


async def test_what_failed_may_be_tried_again_with_the_same_key(world: World, root: Caller) -> None:
    tenant, newcomer = await world.tenant(), await world.user()
    body = {"user_id": str(newcomer.user_id)}
    await tenant.admin.post(f"{tenant.path}/members", body)
    refused = await tenant.admin.post(f"{tenant.path}/members", body, headers=KEY)
    await tenant.admin.delete(f"{tenant.path}/users/{newcomer.user_id}")

    again = await tenant.admin.post(f"{tenant.path}/members", body, headers=KEY)

    assert [refused.status_code, again.status_code] == [409, 201]


async def test_a_replay_needs_the_permission_of_the_moment(world: World) -> None:
    tenant = await world.tenant()
    deputy = await world.member(tenant.org_id, is_admin=True)
    body = {"name": "k", "provider": "openai", "api_key": "sk-0123456789"}
    path = f"{tenant.path}/llm-configs"
    assert (await deputy.post(path, body, headers=KEY)).status_code == 201

    await tenant.admin.delete(f"{tenant.path}/users/{deputy.user_id}")

    assert (await deputy.post(path, body, headers=KEY)).status_code == 404


async def test_tokens_are_never_kept(world: World, resources: Resources) -> None:
    caller = await world.user()

    fresh = await caller.post("/api/auth/refresh", headers=KEY)

    assert fresh.status_code == 200
    assert [key async for key in resources.redis.scan_iter("idempotency:*")] == []


async def test_a_key_that_is_no_key_is_refused(root: Caller) -> None:
    for key in ("", "two words", "x" * 256):
        assert (await root.post("/api/admin/orgs", BODY, headers={"Idempotency-Key": key})).status_code == 422


async def test_what_is_kept_helps_nobody_to_guess_a_password(root: Caller, resources: Resources) -> None:
    body = b'{"username":"new","password":"a weak password"}'
    headers = {**KEY, "Content-Type": "application/json"}
    assert (await root.call("POST", "/api/admin/users", content=body, headers=headers)).status_code == 201

    kept = str([await resources.redis.get(key) async for key in resources.redis.scan_iter("idempotency:*")])
    assert '"state":"done"' in kept
    assert "a weak password" not in kept
    assert hashlib.sha256(body).hexdigest() not in kept
