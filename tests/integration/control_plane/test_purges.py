"""Purging a deleted organization: what may be asked when, what workers are told, and what is left afterwards."""

import asyncio
from uuid import UUID

import aio_pika
import httpx
import msgspec
import nats
import psycopg
import pytest
from redis.asyncio import Redis
from sqlalchemy import delete

from control_plane.audit.tables import AuditChain
from control_plane.database.metadata import metadata
from control_plane.events.publisher import publisher_for
from control_plane.purges.rows import rows_of
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.packages import package_key
from shared.purges import PurgePage, PurgeReport
from shared.workers import WorkerRecord
from tests.contract.control_plane.events_suite import publish
from tests.fakes.plugin_packages import package
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_orchestrator_lifecycle import WORKER
from tests.integration.control_plane.workshop import WEATHER, WEATHER_SETTINGS, Workshop, add_plugin
from tests.isolation.sweep import found_in_postgres, found_in_redis


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


def purge_path(org_id: str) -> str:
    return f"/api/admin/orgs/{org_id}/purge"


async def pending(http: httpx.AsyncClient) -> PurgePage:
    answer = await http.get("/internal/purges", headers=WORKER)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=PurgePage)


async def report(http: httpx.AsyncClient, org_id: str, worker_id: str, *, has_dropped: bool = False) -> int:
    body = msgspec.json.encode(PurgeReport(worker_id, has_dropped))
    headers = {**WORKER, "Content-Type": "application/json"}
    return (await http.post(f"/internal/purges/{org_id}", content=body, headers=headers)).status_code


async def announce(resources: Resources, worker_id: str) -> None:
    await resources.registry.announce(WorkerRecord(worker_id, "http://w", "1", resources.clock.now()))


async def deleted(shop: Workshop, root: Caller) -> str:
    org_id = shop.tenant.org_id
    answer = await root.delete(f"/api/admin/orgs/{org_id}")
    assert answer.status_code == 204, answer.text
    return org_id


async def test_only_what_is_deleted_can_be_purged(shop: Workshop, root: Caller) -> None:
    org_id = shop.tenant.org_id
    refused = await root.delete(purge_path(org_id))
    assert (refused.status_code, refused.json()["code"]) == (409, "RE-0005")
    assert (await root.delete(purge_path(str(new_id())))).status_code == 404
    assert (await root.get(purge_path(org_id))).status_code == 404

    await deleted(shop, root)
    first, again = await root.delete(purge_path(org_id)), await root.delete(purge_path(org_id))

    assert first.status_code == again.status_code == 202
    shown = (await root.get(purge_path(org_id))).json()
    assert shown == first.json() == again.json()
    assert (shown["org_id"], shown["state"]) == (org_id, "conversations")


async def test_a_database_is_dropped_after_every_live_worker_has_let_go(
    shop: Workshop, root: Caller, http: httpx.AsyncClient, resources: Resources
) -> None:
    for worker_id in ("w1", "w2"):
        await announce(resources, worker_id)
    org_id = await deleted(shop, root)
    assert (await pending(http)).purges == ()
    await root.delete(purge_path(org_id))

    (told,) = (await pending(http)).purges
    assert (str(told.org_id), told.may_drop) == (org_id, False)
    assert await report(http, org_id, "w1") == 204
    assert not (await pending(http)).purges[0].may_drop
    assert await report(http, org_id, "w2") == 204
    assert (await pending(http)).purges[0].may_drop
    assert await report(http, org_id, "w2", has_dropped=True) == 204
    assert (await pending(http)).purges == ()

    assert await report(http, str(new_id()), "w1") == 404
    assert (await http.get("/internal/purges")).status_code == 401


async def test_nothing_of_a_purged_organization_is_left_in_the_control_planes_stores(
    shop: Workshop,
    world: World,
    root: Caller,
    http: httpx.AsyncClient,
    resources: Resources,
    redis: Redis,
    postgres_owner_url: str,
) -> None:
    org_id, admin = shop.tenant.org_id, shop.admin
    await add_plugin(resources, WEATHER, schema=WEATHER_SETTINGS)
    instances = [
        await shop.orchestrator(active_plugin_ids=[WEATHER], plugin_settings={WEATHER: {"api_key": "canary"}}),
    ]
    uploaded = await admin.call(
        "POST",
        f"{shop.tenant.path}/plugins/upload",
        files={"file": ("p.zip", package(pid="com.purged.sums"), "application/zip")},
    )
    assert uploaded.status_code == 201, uploaded.text
    instances.append(await shop.orchestrator(name="Other", active_plugin_ids=[uploaded.json()["id"]]))
    assert (
        await admin.post("/api/me/api-keys", {"name": "k", "scopes": ["cadence:org:read"], "org_id": org_id})
    ).is_success
    assert (await admin.post(f"{shop.tenant.path}/settings", {"settings": {"on_disconnect": "cancel"}})).is_success
    role = {"name": "Reader", "scope": "organization", "permissions": ["cadence:org:read"]}
    role_id = (await root.post("/api/admin/roles", role)).json()["id"]
    given = {"user_id": str(shop.member.user_id), "org_id": org_id}
    assert (await root.post(f"/api/admin/roles/{role_id}/users", given)).is_success
    config = {"name": "again", "provider": "openai", "api_key": "sk-0123456789abcdef"}
    kept = await admin.post(f"{shop.tenant.path}/llm-configs", config, headers={"Idempotency-Key": "once"})
    assert kept.status_code == 201, kept.text
    orphan = package_key(UUID(org_id), "com.purged.orphan", "1.0.0")
    await resources.packages.put(orphan, b"what an upload that was killed has left")
    await redis.hset("worker:w9:instances", instances[0]["instance_id"], f'{{"org_id": "{org_id}"}}')
    await redis.zadd("run_claims", {f"{org_id}:{new_id()}": 1.0, f"{new_id()}:{new_id()}": 2.0})
    swept, others_swept = f"usage_swept:{org_id}", f"usage_swept:{new_id()}"
    await redis.mset({swept: str(new_id()), others_swept: str(new_id())})
    assert len(await found_in_postgres(postgres_owner_url, [org_id])) > 5
    assert await found_in_redis(redis, [org_id])
    neighbour = await Workshop.open(world, resources, calculator_id=shop.calculator_id)
    made = await neighbour.orchestrator()

    await deleted(shop, root)
    await root.delete(purge_path(org_id))
    await report(http, org_id, "w1", has_dropped=True)
    await resources.purge_finisher.finish_all()

    needles = [org_id, *(instance["instance_id"] for instance in instances), shop.llm_config_id, "com.purged."]
    left = await found_in_postgres(postgres_owner_url, needles)
    assert {table for table, _ in left} <= {"audit_log"}, left
    # What the platform's own people did stays in the platform's own account.
    async with await psycopg.AsyncConnection.connect(postgres_owner_url) as connection:
        rows = await (
            await connection.execute("SELECT count(*) FROM audit_log WHERE org_id = %s", (org_id,))
        ).fetchone()
    assert rows == (0,)
    assert await found_in_redis(redis, needles) == []
    assert await redis.zcard("run_claims") == 1
    assert (await redis.exists(swept), await redis.exists(others_swept)) == (0, 1)
    storage = resources.settings.packages.storage_root
    assert storage is not None
    assert not (storage / "tenants" / org_id).exists()
    assert (await root.get(purge_path(org_id))).status_code == 404
    assert (await root.delete(purge_path(org_id))).status_code == 404
    assert (await neighbour.admin.get(neighbour.at(made))).json()["instance_id"] == made["instance_id"]


async def test_a_purge_that_broke_off_is_finished_by_the_next_look(
    shop: Workshop, root: Caller, http: httpx.AsyncClient, resources: Resources, postgres_owner_url: str
) -> None:
    org_id = await deleted(shop, root)
    await root.delete(purge_path(org_id))
    await report(http, org_id, "w1", has_dropped=True)

    class Away(OSError):
        pass

    async def away(prefix: str) -> None:
        raise Away

    whole, resources.packages.delete_below = resources.packages.delete_below, away  # type: ignore[method-assign]
    with pytest.raises(Away):
        await resources.purge_finisher.finish_all()
    assert (await root.get(purge_path(org_id))).json()["state"] == "everything_else"

    resources.packages.delete_below = whole  # type: ignore[method-assign]
    await resources.purge_finisher.finish_all()

    assert (await root.get(purge_path(org_id))).status_code == 404
    assert {table for table, _ in await found_in_postgres(postgres_owner_url, [org_id])} <= {"audit_log"}


async def test_the_end_of_a_chain_of_the_audit_log_goes_with_its_organization_only(
    shop: Workshop, resources: Resources
) -> None:
    async with resources.database() as session:
        gone = await session.execute(delete(AuditChain))
        await session.rollback()
    assert gone.rowcount == 0  # type: ignore[attr-defined]  # a DELETE has one


def test_every_table_that_names_an_organization_is_swept() -> None:
    swept = {table.name for table, _ in rows_of(new_id())}

    named = {table.name for table in metadata.sorted_tables if "org_id" in table.c}
    assert named - swept == {"organization_purges"}
    assert {"organizations", "orchestrator_plugins", "orchestrator_llm_configs", "outbox"} <= swept
    assert not swept & {"users", "system_plugins", "roles", "global_settings", "provider_models"}


async def test_a_broker_forgets_what_it_keeps_of_one_and_nothing_else(nats_url: str) -> None:
    publisher, mine, theirs = publisher_for(nats_url), new_id(), new_id()
    await publisher.start()
    try:
        for number in range(6):
            org_id = (mine, theirs)[number % 2]
            await publish(publisher, "settings.org_changed", f'{{"org_id": "{org_id}"}}'.encode(), new_id())
        assert await publisher.forget(str(theirs).encode()) == 3
        assert await publisher.forget(str(theirs).encode()) == 0
        client = await nats.connect(nats_url)
        assert (await client.jetstream().stream_info("CADENCE_ORCHESTRATORS")).state.messages == 3
        await client.close()
    finally:
        await publisher.stop()


async def test_several_that_forget_at_once_forget_each_event_once(nats_url: str) -> None:
    publisher, mine, theirs = publisher_for(nats_url), new_id(), new_id()
    await publisher.start()
    try:
        # JetStream has one word for what is gone from its beginning and another for what is gone from between others.
        await publish(publisher, "settings.org_changed", f'{{"org_id": "{mine}"}}'.encode(), new_id())
        for _ in range(6):
            await publish(publisher, "settings.org_changed", f'{{"org_id": "{theirs}"}}'.encode(), new_id())
        assert sum(await asyncio.gather(*(publisher.forget(str(theirs).encode()) for _ in range(4)))) == 6
    finally:
        await publisher.stop()


async def test_dead_letters_of_one_go_from_rabbitmq_and_the_others_stay_in_order(rabbitmq_url: str) -> None:
    publisher, mine, theirs = publisher_for(rabbitmq_url), new_id(), new_id()
    await publisher.start()
    connection = await aio_pika.connect(rabbitmq_url)
    try:
        channel = await connection.channel()
        for number in range(6):
            body = f"{number} {(mine, theirs)[number % 2]}".encode()
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key="cadence.dead")
        assert await publisher.forget(str(theirs).encode()) == 3
        assert await publisher.forget(str(theirs).encode()) == 0
        queue = await channel.get_queue("cadence.dead")
        left = [(await queue.get(no_ack=True)).body.split()[0] for _ in range(3)]
        assert left == [b"0", b"2", b"4"]
    finally:
        await connection.close()
        await publisher.stop()
