"""`Idempotency-Key`: sent twice, done once."""

import asyncio
import base64
import hashlib
import re
from typing import cast
from uuid import UUID

from redis.asyncio import Redis

from control_plane.purges.redis_keys import forget_in_redis
from control_plane.wiring import Resources
from shared.security.api_keys import read_key
from tests.integration.control_plane.callers import Caller, World

BODY = {"name": "Acme"}
KEY = {"Idempotency-Key": "try-1"}
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4}){10,}")


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


async def everything_in(redis: Redis) -> bytes:
    """Every value that Redis holds, and whatever is base64 in it as well."""
    values: list[bytes] = []
    async for key in redis.scan_iter():
        values += [key, await redis.dump(key) or b""]
        if await redis.type(key) == b"string":
            values.append(cast("bytes | None", await redis.get(key)) or b"")
    decoded = [base64.b64decode(found) for value in values for found in _BASE64.findall(value)]
    return b"\n".join([*values, *decoded])


async def test_a_repeated_request_for_an_api_key_gets_the_same_one_and_redis_never_holds_it(
    world: World, root: Caller, resources: Resources
) -> None:
    tenant = await world.tenant()
    body = {"name": "ci", "scopes": ["cadence:chat:use"], "org_id": tenant.org_id}
    for_another = {**body, "user_id": str(tenant.member.user_id)}
    requests = [(tenant.member, "/api/me/api-keys", body), (root, "/api/admin/api-keys", for_another)]
    shown = []
    for caller, path, wanted in requests:
        first, second = [await caller.post(path, wanted, headers=KEY) for _ in range(2)]
        assert (first.status_code, second.status_code) == (201, 201), first.text
        assert second.json() == first.json()
        assert (second.headers["idempotency-replayed"], second.headers["cache-control"]) == ("true", "no-store")
        shown.append(first.json())
    rotation = f"/api/me/api-keys/{shown[0]['api_key']['id']}/rotate"
    first, second = [await tenant.member.post(rotation, {}, headers=KEY) for _ in range(2)]
    shown.append(first.json())

    assert second.json() == first.json()
    assert len((await tenant.member.get("/api/me/api-keys")).json()["items"]) == 3
    held = await everything_in(resources.redis)
    assert b'"state":"done"' in held
    for answer in shown:
        assert read_key(answer["key"]) is not None
        assert answer["key"].encode() not in held
        assert base64.urlsafe_b64decode(answer["key"].removeprefix("cdk_"))[16:] not in held
    # Somebody else who guesses the key of the request gets nothing of it.
    assert (await tenant.admin.post(rotation, {}, headers=KEY)).status_code == 404


async def test_what_is_kept_of_an_organization_is_found_by_a_purge(world: World, resources: Resources) -> None:
    tenant, other = await world.tenant(), await world.tenant()
    for one in (tenant, other):
        body = {"name": "ci", "scopes": ["cadence:chat:use"], "org_id": one.org_id}
        assert (await one.member.post("/api/me/api-keys", body, headers=KEY)).status_code == 201

    await forget_in_redis(resources.redis, UUID(tenant.org_id))

    assert len([key async for key in resources.redis.scan_iter("idempotency:*")]) == 1
