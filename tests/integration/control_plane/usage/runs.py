"""Runs that have ended, told of as a worker does it, and what an organization is shown of them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from control_plane.usage.stream import UsageCounter
from control_plane.wiring import Resources
from shared.ids import new_id
from shared.usage import FIELD, STREAM, CallUsage, EndedAs, RunFinished, encode_run
from tests.integration.control_plane.callers import Caller, Tenant

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
