"""What was used and cost, on the whole stack: every run once, whatever was away or killed meanwhile."""

import asyncio
import os
import signal
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.client import Client, Stream
from tests.e2e.outage import paused, pids
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(240)]

SETTLED_SECONDS = 60
QUESTION = "What is 12.5 plus 30?"


async def test_every_run_is_counted_once_whatever_is_away_or_killed(
    stack: RunningStack, tenant: Tenant, admin: Client, model_url: str
) -> None:
    model = f"priced-{tenant.pid}"
    await tenant.client.made(
        "PATCH", f"{tenant.org_path}/llm-configs/{tenant.llm_config_id}", json={"model_name": model}
    )
    price = {"provider": "openai", "model_name": model, "input_price": 2.5, "output_price": 10}
    entry = await admin.made("POST", "/api/admin/providers/models", json=price)
    runs: list[Stream] = []
    async with asyncio.timeout(SETTLED_SECONDS):
        while not runs or runs[-1].last["usage"]["cost"] is None:
            runs.append(await chat(tenant))
    unpriced = len(runs) - 1

    processes = await pids(stack)
    for away in ("nats", "postgres"):
        async with paused(processes[away]):
            runs += await asyncio.gather(chat(tenant), chat(tenant))
    runs += await asyncio.gather(chat(tenant), chat(tenant))
    # The moment that their last events have come.
    for slug, pid in processes.items():
        if slug.startswith("worker"):
            os.kill(pid, signal.SIGKILL)
    cost = sum(Decimal(str(run.last["usage"]["cost"])) for run in runs[unpriced:])
    tokens = sum(run.last["usage"]["output_tokens"] for run in runs)

    counted = await total_of(tenant, "usage", len(runs))
    assert (counted["messages"], counted["output_tokens"]) == (len(runs), tokens)
    spent = await total_of(tenant, "cost", len(runs))
    assert Decimal(str(spent["cost"])) == cost > 0

    await admin.made(
        "PATCH", f"/api/admin/providers/models/{entry['id']}", json={"input_price": 99, "output_price": 99}
    )
    async with asyncio.timeout(SETTLED_SECONDS):
        while (run := await chat(tenant)).last["usage"]["cost"] <= runs[-1].last["usage"]["cost"]:
            cost += Decimal(str(run.last["usage"]["cost"]))
            runs.append(run)
    cost += Decimal(str(run.last["usage"]["cost"]))
    spent = await total_of(tenant, "cost", len(runs) + 1)
    assert Decimal(str(spent["cost"])) == cost, "what was spent before cost what it cost then"

    stranger = await Tenant.create(admin, model_url)
    assert (await stranger.client.made("GET", f"{stranger.org_path}/stats/usage"))["items"] == []


async def chat(tenant: Tenant) -> Stream:
    """A run that completes, tried again while the workers are being started."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while not (run := await tenant.client.stream(tenant.stream_path, QUESTION)).events:
            await asyncio.sleep(0.2)
    assert run.is_completed, run
    return run


async def total_of(tenant: Tenant, what: str, messages: int) -> dict[str, Any]:
    """The sum of everything, once that many messages are counted. One that is counted too often never comes to that."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while True:
            items = (await tenant.client.made("GET", f"{tenant.org_path}/stats/{what}?group_by=total"))["items"]
            if items and items[0]["messages"] >= messages:
                found: dict[str, Any] = items[0]
                return found
            await asyncio.sleep(0.2)
