"""What workers are told that have lost their counters, and runs that were lost before they were counted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from sqlalchemy import func, select

from control_plane.usage.counted import find_uncounted, load_counted
from control_plane.usage.stream import UsageCounter
from control_plane.usage.tables import UsageCall
from control_plane.wiring import Resources
from runtime_worker.conversations.base import RunRecord, TurnEnd
from runtime_worker.conversations.databases import mongo_client
from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.usage_sweep import UsageSweep
from shared.ids import first_id_at, new_id
from shared.retention import OrganizationRetention, RetentionPage
from shared.security.api_keys import read_key
from shared.usage import FIELD, STREAM, RunFinished, Uncounted, decode_run, encode_run
from tests.integration.control_plane.callers import Tenant, World
from tests.integration.control_plane.usage.runs import NOON, all_counted, call, run, tell


async def counted(resources: Resources, http: httpx.AsyncClient, org_id: str, on: str = "2026-03-01") -> Any:
    """What a worker is told whose Redis has lost its counters."""
    token = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}
    answer = await http.get(f"/internal/limits/{org_id}/counted?on={on}", headers=token)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_workers_are_told_what_is_counted_of_one_organization_in_one_month(
    world: World, tenant: Tenant, resources: Resources, counter: UsageCounter, http: httpx.AsyncClient
) -> None:
    other = await world.tenant()
    await tell(
        resources,
        run(tenant.org_id, call(cost="0.5"), call(cost=None)),
        run(tenant.org_id, call(cost="0.25"), ended_at=NOON + timedelta(hours=13)),
        run(tenant.org_id, call(cost="7"), ended_at=NOON - timedelta(days=1)),
        run(other.org_id, call(cost="100")),
    )
    await all_counted(resources, counter)

    assert await counted(resources, http, tenant.org_id, "2026-03-02") == {
        "messages_today": 1,
        "messages_this_month": 2,
        "tokens_today": 1_100,
        "tokens_this_month": 3_300,
        "spent_micros": 750_000,
        "spent_by_key": {},
    }
    assert (await counted(resources, http, other.org_id))["spent_micros"] == 100_000_000
    assert (await counted(resources, http, other.org_id, "2026-04-01"))["spent_micros"] == 0
    assert (await http.get(f"/internal/limits/{tenant.org_id}/counted?on=2026-03-01")).status_code == 401


async def test_a_key_and_the_keys_that_replace_it_spend_together(
    tenant: Tenant, resources: Resources, counter: UsageCounter, http: httpx.AsyncClient
) -> None:
    body = {"name": "budgeted", "scopes": ["cadence:chat:use"], "budget_per_month": 2.0}
    keys, made = [], (await tenant.member.post("/api/me/api-keys", body)).json()
    for _ in range(3):
        keys.append(made)
        made = (await tenant.member.post(f"/api/me/api-keys/{made['api_key']['id']}/rotate", {})).json()
    ids = [UUID(key["api_key"]["id"]) for key in keys]
    runs = [run(tenant.org_id, call(cost="0.5"), api_key_id=key_id) for key_id in [*ids, new_id()]]
    await tell(resources, *runs, *runs)
    await all_counted(resources, counter)

    spent = (await counted(resources, http, tenant.org_id))["spent_by_key"]

    assert (spent[str(ids[0])], len(spent)) == (1_500_000, 2)
    token = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}
    digests = [read_key(key["key"]) for key in keys]
    records = [(await http.get(f"/internal/api-keys/{d.digest}", headers=token)).json() for d in digests if d]
    assert [record["budget_id"] for record in records] == [None, str(ids[0]), str(ids[0])]


async def test_a_quota_says_what_is_spent_also_when_redis_has_lost_it(
    world: World, tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    root, now = await world.sys_admin(), resources.clock.now()
    counter._clock = resources.clock
    await tell(resources, run(tenant.org_id, call(cost="0.5"), ended_at=now))
    await all_counted(resources, counter)

    quota = (await root.get(f"/api/admin/orgs/{tenant.org_id}/quota")).json()

    assert (quota["messages_per_month"]["used"], quota["tokens_per_month"]["used"]) == (1, 1_100)
    assert quota["budget_per_month"]["used"] == 0.5


async def test_workers_are_told_which_runs_are_not_counted(
    tenant: Tenant, resources: Resources, counter: UsageCounter, http: httpx.AsyncClient
) -> None:
    now = resources.clock.now()
    counter._clock = resources.clock
    known, unknown = run(tenant.org_id, call(), ended_at=now), new_id()
    forgotten = first_id_at(now - timedelta(days=91))
    await tell(resources, known)
    await all_counted(resources, counter)
    token = {"Authorization": f"Bearer {resources.settings.security.worker_token}"}
    body = {"run_ids": [str(run_id) for run_id in (known.run_id, unknown, forgotten)]}

    answer = await http.post("/internal/usage/uncounted", json=body, headers=token)

    assert answer.json()["run_ids"] == [str(unknown)]
    assert datetime.fromisoformat(answer.json()["oldest"]) >= now - timedelta(days=90)
    assert (await http.post("/internal/usage/uncounted", json=body)).status_code == 401
    many = {"run_ids": [str(unknown)] * 1_001}
    assert (await http.post("/internal/usage/uncounted", json=many, headers=token)).status_code == 422


async def test_what_redis_lost_before_it_was_counted_is_counted_once(
    world: World, tenant: Tenant, resources: Resources, counter: UsageCounter, mongo_url: str
) -> None:
    other, now = await world.tenant(), resources.clock.now()
    counter._clock = resources.clock
    runs = [run(one.org_id, call(cost="0.5"), ended_at=now) for one in (tenant, tenant, tenant, other)]
    async with mongo_client(mongo_url) as client:
        store = MongoConversationStore(client)
        for finished in runs:
            await store.end_turn(finished.org_id, TurnEnd(run=ended_run(finished), answer=None))
        await tell(resources, *runs)
        # One is counted before the rest is lost.
        await tell(resources, runs[0])
        await all_counted_of(resources, counter, runs[0])
        sweep = sweep_of(resources, store, {finished.org_id for finished in runs})

        told = [await sweep.sweep(), await sweep.sweep()]
        await resources.redis.delete(*[key async for key in resources.redis.scan_iter("usage_swept:*")])
        told.append(await sweep.sweep())
    await all_counted(resources, counter)

    assert told == [3, 0, 3]
    query = select(func.count()).select_from(UsageCall)
    async with resources.database() as session:
        assert (await session.execute(query)).scalar_one() == 4
    assert (await load_counted(resources.autocommit, UUID(tenant.org_id), now.date())).spent_micros == 1_500_000
    assert (await load_counted(resources.autocommit, UUID(other.org_id), now.date())).spent_micros == 500_000


def ended_run(finished: RunFinished) -> RunRecord:
    """A run as its worker stored it."""
    return RunRecord(
        run_id=finished.run_id,
        conversation_id=new_id(),
        instance_id=finished.instance_id,
        user_id=finished.user_id,
        config_hash="",
        status="completed",
        started_at=finished.ended_at,
        ended_at=finished.ended_at,
        usage_entry=encode_run(finished),
    )


async def all_counted_of(resources: Resources, counter: UsageCounter, finished: RunFinished) -> None:
    """Only this one's entry is left, and counted."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", await resources.redis.xrange(STREAM))
    for entry_id, fields in entries:
        if decode_run(fields[FIELD.encode()]).run_id != finished.run_id:
            await resources.redis.xdel(STREAM, entry_id)
    await all_counted(resources, counter)


def sweep_of(resources: Resources, store: MongoConversationStore, organizations: set[UUID]) -> UsageSweep:
    """A worker's, that looks at runs the moment they have ended and asks this control plane."""

    async def page(after: UUID | None, limit: int) -> RetentionPage:
        return RetentionPage(tuple(OrganizationRetention(org_id, None) for org_id in organizations))

    async def uncounted(run_ids: Sequence[UUID]) -> Uncounted:
        return await find_uncounted(resources.autocommit, run_ids, resources.clock, kept_days=90)

    args = (resources.redis, store, page, uncounted, lambda _: True, resources.clock)
    return UsageSweep(*args, behind_seconds=-60)
