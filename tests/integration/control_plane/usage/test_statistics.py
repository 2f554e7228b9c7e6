"""What is shown of usage and cost by day, instance and model, in pages or as CSV, and to whom."""

import csv
import io
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import func, select

from control_plane.usage.stream import UsageCounter
from control_plane.usage.tables import DailyUsage, UsageCall, UsageRun
from control_plane.wiring import Resources
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, Tenant, World
from tests.integration.control_plane.usage.runs import MARCH, NOON, all_counted, call, run, shown, tell, total


async def test_a_call_without_a_price_is_told_apart_and_not_free(
    tenant: Tenant, resources: Resources, counter: UsageCounter
) -> None:
    await tell(resources, run(tenant.org_id, call(), call("home made", cost=None)))
    await all_counted(resources, counter)
    summed = await total(tenant, "cost")
    assert (summed["cost"], summed["currency"], summed["calls"], summed["unpriced_calls"]) == (0.001, "USD", 2, 1)


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


async def test_a_day_is_one_of_utc(tenant: Tenant, resources: Resources, counter: UsageCounter) -> None:
    late = datetime.fromisoformat("2026-03-02T01:30:00+02:00")
    await tell(resources, run(tenant.org_id, call(), ended_at=late))
    await all_counted(resources, counter)
    (item,) = await shown(tenant.admin, tenant.org_id, "usage", "day")
    assert date.fromisoformat(item["day"]) == date(2026, 3, 1)
