"""How API keys are stored, used, replaced and ended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.api_keys.records import _store
from control_plane.wiring import Resources
from shared.errors import NotAuthenticated
from shared.security.principals import Authenticator
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.key_holders import READ_ORG, KeyHolder, made


async def test_a_revoked_key_is_refused_on_its_very_next_request(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    mine, mine_id = await made(tenant.admin, [READ_ORG])
    seized, seized_id = await made(tenant.admin, [READ_ORG])
    for program in (mine, seized):
        assert (await program.get(tenant.path)).status_code == 200

    assert (await tenant.admin.delete(f"/api/me/api-keys/{mine_id}")).status_code == 204
    assert (await root.delete(f"/api/admin/api-keys/{seized_id}")).status_code == 204

    for program in (mine, seized):
        assert (await program.get(tenant.path)).status_code == 401
    assert (await tenant.admin.delete(f"/api/me/api-keys/{mine_id}")).status_code == 404


async def test_a_key_is_shown_once_and_stored_as_a_hash(world: World, resources: Resources, root: Caller) -> None:
    tenant = await world.tenant()
    program, key_id = await made(tenant.admin, [READ_ORG])

    mine, every = await tenant.admin.get("/api/me/api-keys"), await root.get("/api/admin/api-keys")
    assert [k["id"] for k in mine.json()["items"]] == [k["id"] for k in every.json()["items"]] == [key_id]
    assert mine.json()["items"][0]["hint"] == program.key[-4:]
    async with resources.database() as session:
        stored = str((await session.execute(text("SELECT * FROM api_keys"))).one())
    cached = [key + (await resources.redis.get(key) or b"") async for key in resources.redis.scan_iter("api_key*")]
    for shown in (mine.text, every.text, stored, str(cached)):
        assert program.key.removeprefix("cdk_") not in shown


async def test_a_rotated_key_works_until_the_overlap_is_over(world: World) -> None:
    tenant = await world.tenant()
    old, key_id = await made(tenant.admin, [READ_ORG], expires_at="2099-01-01T00:00:00Z")

    answer = await tenant.admin.post(f"/api/me/api-keys/{key_id}/rotate", {"overlap_seconds": 3600})
    new = KeyHolder(tenant.admin.http, answer.json()["key"])
    again = await tenant.admin.post(f"/api/me/api-keys/{answer.json()['api_key']['id']}/rotate", {"overlap_seconds": 0})

    assert answer.json()["api_key"]["expires_at"] == "2099-01-01T00:00:00Z"
    keys = {k["id"]: k for k in (await tenant.admin.get("/api/me/api-keys")).json()["items"]}
    assert datetime.fromisoformat(keys[key_id]["expires_at"]) - datetime.now(UTC) < timedelta(hours=1)
    assert (await old.get(tenant.path)).status_code == 200
    assert (await new.get(tenant.path)).status_code == 401
    assert (await KeyHolder(tenant.admin.http, again.json()["key"]).get(tenant.path)).status_code == 200
    over = await tenant.admin.post(f"/api/me/api-keys/{answer.json()['api_key']['id']}/rotate", {})
    assert over.status_code == 409


async def test_a_suspended_organization_is_closed_to_keys(world: World, root: Caller) -> None:
    tenant = await world.tenant()
    program, _ = await made(tenant.admin, [READ_ORG])

    await root.patch(f"/api/admin/orgs/{tenant.org_id}", {"status": "suspended"})

    assert (await program.get(tenant.path)).json()["code"] == "AZ-0002"


async def test_an_expired_key_is_refused(world: World, resources: Resources, clock: ManualClock) -> None:
    caller = await world.user()
    end = clock.now() + timedelta(days=4000)
    program, _ = await made(caller, ["cadence:profile:read"], expires_at=end.isoformat())
    judge = Authenticator(
        clock=clock,
        tokens=resources.tokens,
        sessions=resources.sessions,
        grants=resources.grants,
        api_keys=resources.authenticator._api_keys,
        uses=resources.api_key_uses,
        limiter=resources.limiter,
    )

    clock.advance(timedelta(days=3999).total_seconds())
    assert (await judge.identify({"x-api-key": program.key}, None)).user_id == caller.user_id
    clock.advance(timedelta(days=1).total_seconds())
    with pytest.raises(NotAuthenticated):
        await judge.identify({"x-api-key": program.key}, None)


async def test_a_check_of_a_known_key_is_one_question_to_redis(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    program, _ = await made(tenant.admin, [READ_ORG])
    await program.get(tenant.path)

    before = (await resources.redis.info("stats"))["total_commands_processed"]
    await resources.authenticator.identify({"x-api-key": program.key}, None)
    await resources.authenticator.identify({"x-api-key": program.key}, None)
    after = (await resources.redis.info("stats"))["total_commands_processed"]

    # The first asks for the grant of the system, which nobody has asked for yet, and keeps it. One is INFO itself.
    assert after - before <= 2 + 1 + 1


async def test_the_last_use_is_kept_without_a_write_for_each_request(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    program, _ = await made(tenant.admin, [READ_ORG])
    unused, _ = await made(tenant.admin, [READ_ORG])
    started = datetime.now(UTC)
    for _ in range(3):
        await program.get(tenant.path)
    assert await resources.redis.hlen("api_key_uses") == 0

    await resources.api_key_uses.tell()
    await resources.api_key_uses.move(lambda uses: _store(resources.autocommit, uses))

    used, never = (await tenant.admin.get("/api/me/api-keys")).json()["items"]
    assert started <= datetime.fromisoformat(used["last_used_at"]) <= datetime.now(UTC)
    assert never["last_used_at"] is None
    assert unused.key != program.key
    assert not await resources.redis.exists("api_key_uses", "api_key_uses:moving")


async def test_a_use_that_could_not_be_stored_is_stored_next_time(world: World, resources: Resources) -> None:
    tenant = await world.tenant()
    program, key_id = await made(tenant.admin, [READ_ORG])
    await program.get(tenant.path)
    await resources.api_key_uses.tell()

    async def fails(_: Any) -> None:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        await resources.api_key_uses.move(fails)
    stored: dict[Any, datetime] = {}

    async def stores(uses: Any) -> None:
        stored.update(uses)

    await resources.api_key_uses.move(stores)

    assert [str(k) for k in stored] == [key_id]
