"""Central points over the one port: a swap under traffic, a guest, and the end of an organization's service."""

import asyncio

import aiohttp
import pytest

from tests.e2e.client import Client, Stream
from tests.e2e.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

STREAMS = 20
SWAPS = 10
QUESTION = "What is 12.5 plus 30?"


async def another_orchestrator(tenant: Tenant) -> str:
    body = {
        "name": "The next one",
        "framework_type": "langgraph",
        "mode": "supervisor",
        "active_plugin_ids": [tenant.plugin_id],
        "whoami": "You add numbers, too.",
        "config": {"default_llm_config_id": tenant.llm_config_id},
    }
    made = await tenant.client.made("POST", f"{tenant.org_path}/orchestrators", json=body)
    return str(made["instance_id"])


async def central_point(tenant: Tenant, **fields: object) -> str:
    """The path of a new one at the tenant's orchestrator."""
    body = {"name": "Helpdesk", "instance_id": tenant.instance_id, **fields}
    made = await tenant.client.made("POST", f"{tenant.org_path}/central-points", json=body)
    return f"{tenant.org_path}/central-points/{made['central_id']}"


async def test_ten_swaps_under_twenty_streams_fail_none_and_each_run_has_one_configuration(tenant: Tenant) -> None:
    ids = [tenant.instance_id, await another_orchestrator(tenant)]
    point = await central_point(tenant)
    is_over = asyncio.Event()
    runs: list[Stream] = []

    async def talk() -> None:
        while not is_over.is_set():
            runs.append(await tenant.client.stream(f"{point}/completion/stream", QUESTION))

    talking = [asyncio.create_task(talk()) for _ in range(STREAMS)]
    try:
        for number in range(1, SWAPS + 1):
            await asyncio.sleep(0.3)
            await tenant.client.made("PATCH", point, json={"instance_id": ids[number % 2]})
    finally:
        is_over.set()
        await asyncio.gather(*talking)

    assert [run for run in runs if not run.is_completed] == []
    assert len(runs) >= STREAMS
    hashes = {run.first["instance_id"]: run.first["config_hash"] for run in runs}
    assert hashes.keys() == set(ids)
    assert all(run.first["config_hash"] == hashes[run.first["instance_id"]] for run in runs)
    refused = await tenant.client.call("DELETE", f"{tenant.org_path}/orchestrators/{ids[0]}")
    assert refused.status == 409, refused


async def test_a_guest_is_answered_until_the_organization_is_suspended(
    tenant: Tenant, admin: Client, http: aiohttp.ClientSession
) -> None:
    point = await central_point(tenant, visibility="public")
    guest = Client(admin.base_url, http)
    path = f"{point}/completion/chat"
    # Workers hear of a new point by its event.
    async with asyncio.timeout(10):
        while (first := await guest.call("POST", path, json={"message": QUESTION})).status == 401:
            await asyncio.sleep(0.05)
    assert "42.5" in first.body["response"], first
    token = first.body["conversation_token"]
    second = await guest.made("POST", path, json={"message": "And 1 plus 2?", "conversation_token": token})
    assert second["conversation_id"] == first.body["conversation_id"]
    assert (await guest.call("GET", f"{tenant.org_path}/conversations")).status == 401

    await admin.made("PATCH", f"/api/admin/orgs/{tenant.org_id}", json={"status": "suspended"})
    stopped = await guest.call("POST", path, json={"message": QUESTION})
    assert (stopped.status, stopped.body["code"]) == (403, "AZ-0002")
