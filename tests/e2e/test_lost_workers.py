"""Workers that go while they stream, and the client behind the gateway, who is told how it ends all the same."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from deploy.stack.data_dir import DataDirectory
from tests.chaos.faults import runs_by_url
from tests.e2e.client import Client, Event
from tests.e2e.outage import paused, pids
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

END_SECONDS = 30
QUESTION = "Tell me everything about the weather of tomorrow, and about the one of the day after that, and of the next"


@asynccontextmanager
async def streaming(tenant: Tenant) -> AsyncIterator[tuple[list[Event], AsyncIterator[Event]]]:
    """A run of which something was shown: what, and what is still to come."""
    async with tenant.client.open_stream(tenant.stream_path, {"message": QUESTION}) as events:
        seen = []
        async for event in events:
            seen.append(event)
            if event.name == "message":
                break
        yield seen, events


async def workers_of(stack: RunningStack, run_id: str) -> tuple[str, list[str]]:
    """The slug of the worker that has a run, and the addresses of the others."""
    state = DataDirectory(stack.data_dir).state()
    assert state is not None
    workers = {process.url: process.slug for process in state.processes if process.slug.startswith("worker-")}
    async with Redis.from_url(state.backing["CADENCE_REDIS_URL"]) as redis:
        owner = next(url for url, runs in (await runs_by_url(redis)).items() if run_id in runs)
    return workers[owner], [url for url in workers if url != owner]


async def assert_told_and_stored(tenant: Tenant, events: list[Event]) -> None:
    """The end is one that says that the worker was lost, nothing is missing or repeated, and all of it is stored."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[-1].name, events[-1].data["code"], events[-1].data["retryable"]) == ("error", "OR-0007", True)
    first: dict[str, Any] = events[0].data
    text = "".join(event.data["content"] for event in events if event.name == "message")
    messages = await tenant.client.made("GET", f"{tenant.org_path}/conversations/{first['conversation_id']}/messages")
    assert [(m["role"], m["content"]) for m in messages["items"]] == [("user", QUESTION), ("assistant", text)]
    run = await tenant.client.made("GET", f"{tenant.org_path}/runs/{first['run_id']}")
    assert (run["status"], run["error"]["code"]) == ("failed", "OR-0007")


async def test_a_stream_whose_worker_is_killed_ends_with_what_was_shown_stored(
    stack: RunningStack, tenant: Tenant
) -> None:
    async with streaming(tenant) as (seen, events):
        slug, _ = await workers_of(stack, seen[0].data["run_id"])
        before = await pids(stack)
        os.killpg(before[slug], signal.SIGKILL)
        async with asyncio.timeout(END_SECONDS):
            seen += [event async for event in events]
    await assert_told_and_stored(tenant, seen)
    async with asyncio.timeout(END_SECONDS):
        while (await pids(stack)).get(slug) in (None, before[slug]):
            await asyncio.sleep(0.1)


async def test_a_stream_whose_worker_stands_still_ends_and_nothing_changes_when_it_wakes_up(
    stack: RunningStack, tenant: Tenant
) -> None:
    async with streaming(tenant) as (seen, events):
        slug, _ = await workers_of(stack, seen[0].data["run_id"])
        async with paused((await pids(stack))[slug]):
            async with asyncio.timeout(END_SECONDS):
                seen += [event async for event in events]
            await assert_told_and_stored(tenant, seen)
    await asyncio.sleep(1)
    await assert_told_and_stored(tenant, seen)


async def test_a_run_is_cancelled_at_any_worker(stack: RunningStack, tenant: Tenant) -> None:
    async with streaming(tenant) as (seen, events):
        run_id = seen[0].data["run_id"]
        _, others = await workers_of(stack, run_id)
        elsewhere = Client(others[0], tenant.client.session)
        elsewhere.token = tenant.client.token
        assert (await elsewhere.call("POST", f"{tenant.org_path}/runs/{run_id}/cancel")).status == 202
        async with asyncio.timeout(END_SECONDS):
            seen += [event async for event in events]
    assert (seen[-1].data["final"], seen[-1].data["status"]) == (True, "cancelled")
