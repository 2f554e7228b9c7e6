"""What runs used and cost: counted once, kept apart, shown by day, instance and model."""

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import httpx
import msgspec
import pytest
from sqlalchemy import func, select

from control_plane.usage.counted import find_uncounted, load_counted
from control_plane.usage.retention import prune
from control_plane.usage.stream import UsageCounter
from control_plane.usage.tables import DailyUsage, UsageCall, UsageRun
from control_plane.wiring import Resources
from control_plane.wiring.resources import usage_counter
from runtime_worker.conversations.base import RunRecord, TurnEnd
from runtime_worker.conversations.databases import mongo_client
from runtime_worker.conversations.mongo import MongoConversationStore
from runtime_worker.usage_sweep import UsageSweep
from shared.ids import first_id_at, new_id
from shared.retention import OrganizationRetention, RetentionPage
from shared.security.api_keys import read_key
from shared.settings import ControlPlaneSettings
from shared.usage import DEAD_STREAM, FIELD, STREAM, CallUsage, EndedAs, RunFinished, Uncounted, decode_run, encode_run
from tests.fakes.clock import ManualClock
from tests.integration.control_plane.callers import Caller, Tenant, World

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MARCH = "from=2026-03-01&to=2026-03-31"


def call(model: str = "small", *, cost: str | None = "0.001", **changes: Any) -> CallUsage:
    values = {"input_tokens": 1_000, "output_tokens": 100, "cached_tokens": 10, "duration_ms": 5, **changes}
    price = None if cost is None else Decimal(1)
    return CallUsage(
        provider="openai",
        model_name=model,
        node="supervisor_node",
        at=NOON,
        input_price=price,
        output_price=price,
        cost=None if cost is None else Decimal(cost),
        **values,
    )


def run(org_id: str, *calls: CallUsage, status: EndedAs = "completed", **changes: Any) -> RunFinished:
    values = {"run_id": new_id(), "instance_id": new_id(), "user_id": new_id(), "ended_at": NOON, **changes}
    return RunFinished(org_id=UUID(org_id), status=status, calls=calls, **values)


@pytest.fixture
def settings(settings: ControlPlaneSettings) -> ControlPlaneSettings:
    return msgspec.structs.replace(settings, usage_retention_days=90)


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do what the control plane does in the background, when and as often as they want."""

    async def wait(_: UsageCounter) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(UsageCounter, "run", wait)


@pytest.fixture
def counter(resources: Resources) -> UsageCounter:
    counter = usage_counter(resources)
    counter._clock = ManualClock(NOON + timedelta(days=1))
    return counter


async def tell(resources: Resources, *runs: RunFinished) -> None:
    for finished in runs:
        await resources.redis.xadd(STREAM, {FIELD: encode_run(finished)})


async def all_counted(resources: Resources, counter: UsageCounter) -> None:
    while await resources.redis.xlen(STREAM):
        await counter.count_some(0.01)


async def shown(caller: Caller, org_id: str, what: str = "usage", group_by: str = "total", **more: Any) -> Any:
    answer = await caller.get(f"/api/orgs/{org_id}/stats/{what}?{MARCH}&group_by={group_by}", **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def total(tenant: Tenant, what: str = "usage") -> dict[str, Any]:
    (item,) = await shown(tenant.admin, tenant.org_id, what)
    return {name: value for name, value in item.items() if value is not None}


@pytest.fixture
async def tenant(world: World) -> Tenant:
    return await world.tenant()


async def test_a_run_with_three_calls_over_two_models_is_one_message(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    instance_id = new_id()
    calls = (call(), call(is_estimated=True), call("large", cost="0.5"))
    await tell(resources, run(tenant.org_id, *calls, instance_id=instance_id))
    await all_counted(resources, counter)

    assert await total(tenant) == {
        "messages": 1,
        "failed": 0,
        "cancelled": 0,
        "calls": 3,
        "estimated_calls": 1,
        "input_tokens": 3_000,
        "output_tokens": 300,
        "cached_tokens": 30,
    }
    assert (await total(tenant, "cost"))["cost"] == 0.502
    by_model = await shown(tenant.admin, tenant.org_id, "usage", "model,instance,day")
    assert [(m["model_name"], m["calls"], m["messages"], m["instance_id"], m["day"]) for m in by_model] == [
        ("large", 1, 1, str(instance_id), "2026-03-01"),
        ("small", 2, 1, str(instance_id), "2026-03-01"),
    ]


async def test_what_comes_twice_late_and_in_another_order_counts_once(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    runs = [run(tenant.org_id, call(), call("large"), ended_at=NOON - timedelta(hours=n)) for n in range(20)]
    await tell(resources, *runs, *reversed(runs))
    await all_counted(resources, counter)
    once = await total(tenant), await total(tenant, "cost"), await shown(tenant.admin, tenant.org_id, "cost", "day")
    await tell(resources, *reversed(runs), runs[3], runs[3])
    await all_counted(resources, counter)

    assert (once[0]["messages"], once[0]["calls"], once[1]["cost"]) == (13, 26, 0.026)
    assert once == (
        await total(tenant),
        await total(tenant, "cost"),
        await shown(tenant.admin, tenant.org_id, "cost", "day"),
    )


async def test_a_run_that_a_second_worker_tells_of_adds_only_what_was_not_told(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    told = run(tenant.org_id, call(), call("large"))
    unknown = CallUsage("", "", "", 0, 7, NOON, is_estimated=True)
    lost = run(tenant.org_id, unknown, status="failed", run_id=told.run_id, instance_id=told.instance_id)
    await tell(resources, told, lost)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["calls"], summed["output_tokens"]) == (1, 0, 2, 200)


async def test_what_each_of_two_workers_did_for_a_run_adds_up(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    first = run(tenant.org_id, call(), status="handed_over")
    second = run(tenant.org_id, call("large"), epoch=2, run_id=first.run_id, instance_id=first.instance_id)
    await tell(resources, second, first)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["calls"]) == (1, 0, 2)


async def test_of_several_that_count_at_once_nobody_counts_twice(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await tell(resources, *(run(tenant.org_id, call(), call("large")) for _ in range(600)))
    while await resources.redis.xlen(STREAM):
        await asyncio.gather(*(counter.count_some(0.01) for _ in range(4)))
    summed = await total(tenant)
    assert (summed["messages"], summed["calls"]) == (600, 1_200)


async def test_a_crash_between_counting_and_taking_out_counts_nothing_twice(
    tenant: Tenant, resources: Resources, counter: UsageCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(counter._redis, "pipeline", crash)
        await tell(resources, run(tenant.org_id, call()))
        with pytest.raises(RuntimeError, match="killed"):
            await counter.count_some(0.01)
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 1


async def test_runs_that_ended_badly_are_counted_with_what_they_spent(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    runs = [run(tenant.org_id, call(), status="failed"), run(tenant.org_id, status="cancelled")]
    await tell(resources, *runs)
    await all_counted(resources, counter)
    summed = await total(tenant)
    assert (summed["messages"], summed["failed"], summed["cancelled"], summed["calls"]) == (2, 1, 1, 1)


async def test_a_call_without_a_price_is_told_apart_and_not_free(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await tell(resources, run(tenant.org_id, call(), call("home made", cost=None)))
    await all_counted(resources, counter)
    summed = await total(tenant, "cost")
    assert (summed["cost"], summed["currency"], summed["calls"], summed["unpriced_calls"]) == (0.001, "USD", 2, 1)


async def test_what_cannot_be_read_is_put_aside_and_holds_nothing_up(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await resources.redis.xadd(STREAM, {FIELD: b'{"event":"run.finished"'})
    await resources.redis.xadd(STREAM, {b"other": b"x"})
    await tell(resources, run(str(new_id()), call()), run(tenant.org_id, call()))
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 1
    assert await resources.redis.xlen(DEAD_STREAM) == 2


async def test_another_organization_sees_nothing_of_it(
    world: World, tenant: Tenant, resources: Resources, counter: UsageCounter, root: Caller
) -> None:
    await tell(resources, run(tenant.org_id, call("canary-model")))
    await all_counted(resources, counter)
    other = await world.tenant()

    for what in ("usage", "cost"):
        path = f"/stats/{what}?{MARCH}&group_by=model"
        assert (await other.admin.get(tenant.path + path)).status_code == 404
        assert (await other.admin.get(other.path + path)).json()["items"] == []
        csv_answer = await other.admin.get(other.path + path + "&format=csv")
        assert "canary" not in csv_answer.text
        assert (await tenant.member.get(tenant.path + path)).status_code == 403
        assert (await root.get(tenant.path + path)).json()["items"][0]["model_name"] == "canary-model"
    # The application's own filter gone, PostgreSQL still shows nobody else's rows.
    async with resources.database(UUID(other.org_id)) as session:
        for table in (UsageRun, UsageCall, DailyUsage):
            assert (await session.execute(select(func.count()).select_from(table))).scalar_one() == 0


async def test_pages_show_every_group_once(tenant: Tenant, resources: Resources, counter: UsageCounter) -> None:
    instances = [new_id() for _ in range(3)]
    runs = [
        run(tenant.org_id, call(model), instance_id=instance, ended_at=NOON - timedelta(days=day))
        for instance in instances
        for model in ("Z", "a", "ä", "=1+1")
        for day in (0, 1, 31)
    ]
    counter._kept_days = 0
    await tell(resources, *runs)
    await all_counted(resources, counter)
    seen: list[tuple[str, str, str]] = []
    path = f"{tenant.path}/stats/cost?from=2026-01-01&to=2026-03-01&group_by=day,instance,model&limit=5"
    cursor = ""
    while True:
        page = (await tenant.admin.get(path + cursor)).json()
        seen += [(item["day"], item["instance_id"], item["model_name"]) for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 36
    wrong = await tenant.admin.get(f"{tenant.path}/stats/cost?group_by=model{cursor}")
    assert wrong.status_code == 422


async def test_csv_has_all_rows_and_no_formula(tenant: Tenant, resources: Resources, counter: UsageCounter) -> None:
    names = ['=HYPERLINK("http://evil.example","x")', "@SUM(A1)", "plain, with a comma", "-1+1"]
    await tell(resources, *(run(tenant.org_id, call(name)) for name in names))
    await all_counted(resources, counter)
    path = f"{tenant.path}/stats/cost?{MARCH}&group_by=model&limit=1"

    by_format = await tenant.admin.get(path + "&format=csv")
    by_header = await tenant.admin.get(path, headers={"Accept": "text/csv"})
    assert by_format.headers["content-type"] == "text/csv; charset=utf-8"
    assert by_format.headers["content-disposition"] == 'attachment; filename="cost-2026-03-01-2026-03-31.csv"'
    assert by_format.text == by_header.text
    rows = list(csv.DictReader(io.StringIO(by_format.text)))
    assert {row["model_name"] for row in rows} == {f"'{n}" if n[0] in "=@-" else n for n in names}
    assert {Decimal(row["cost"]) for row in rows} == {Decimal("0.001")}
    assert {row["currency"] for row in rows} == {"USD"}


@pytest.mark.parametrize(
    "query", ["group_by=user", "group_by=day,", "from=2026-03-02&to=2026-03-01", "from=yesterday", "format=xml"]
)
async def test_a_question_that_makes_no_sense_is_refused(tenant: Tenant, query: str) -> None:
    answer = await tenant.admin.get(f"{tenant.path}/stats/usage?{query}")
    assert answer.status_code == 422, answer.text


async def test_single_calls_are_forgotten_in_time_and_days_are_not(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    old, new = run(tenant.org_id, call(), call()), run(tenant.org_id, call(), ended_at=NOON + timedelta(days=80))
    await tell(resources, old, new)
    await all_counted(resources, counter)
    clock = ManualClock(NOON + timedelta(days=91))

    assert await prune(resources.database, clock, 90) == 3
    assert await prune(resources.database, clock, 90) == 0
    assert (await total(tenant))["calls"] == 2
    # What was forgotten is not counted again when it comes once more.
    counter._clock = clock
    await tell(resources, old)
    await all_counted(resources, counter)
    assert (await total(tenant))["calls"] == 2
    async with resources.database() as session:
        assert (await session.scalars(select(UsageRun.run_id))).all() == [new.run_id]


async def test_a_day_is_one_of_utc(tenant: Tenant, resources: Resources, counter: UsageCounter) -> None:
    late = datetime.fromisoformat("2026-03-02T01:30:00+02:00")
    await tell(resources, run(tenant.org_id, call(), ended_at=late))
    await all_counted(resources, counter)
    (item,) = await shown(tenant.admin, tenant.org_id, "usage", "day")
    assert date.fromisoformat(item["day"]) == date(2026, 3, 1)


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
