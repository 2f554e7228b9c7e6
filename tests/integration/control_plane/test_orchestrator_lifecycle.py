"""Orchestrators at run time, as the control plane tells and shows it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiohttp import web
from redis.asyncio import Redis

from control_plane.wiring import Resources
from shared.clock import SystemClock
from shared.workers import InstanceState, LoadState, WorkerRecord, WorkerRegistry
from tests.fakes.worker_server import WorkerServer, worker_server
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.workshop import Workshop, add_plugin

WORKER = {"Authorization": "Bearer a token for tests that is long enough"}


@pytest.fixture
async def shop(world: World, resources: Resources) -> Workshop:
    return await Workshop.open(world, resources)


@pytest.fixture
async def worker(redis: Redis) -> AsyncIterator[WorkerServer]:
    async with worker_server("worker-a", redis) as worker:
        yield worker


async def report(
    redis: Redis, worker_id: str, made: dict[str, Any], state: LoadState = "ready", **changes: Any
) -> None:
    fields: dict[str, Any] = {
        "instance_id": UUID(made["instance_id"]),
        "org_id": UUID(made["org_id"]),
        "state": state,
        "revision": made["revision"],
        "config_hash": made["config_hash"],
        "updated_at": datetime.now(UTC),
        **changes,
    }
    await WorkerRegistry(redis, SystemClock()).report(worker_id, [InstanceState(**fields)])


async def is_ready(shop: Workshop, made: dict[str, Any]) -> bool:
    ready = bool((await shop.member.get(shop.at(made))).json()["is_ready"])
    listed = {i["instance_id"]: i["is_ready"] for i in (await shop.member.get(shop.path)).json()["items"]}
    status = (await shop.member.get(shop.at(made, "/status"))).json()
    assert (listed[made["instance_id"]], status["is_ready"]) == (ready, ready)
    return ready


async def test_ready_means_that_a_live_worker_serves_the_current_configuration(
    shop: Workshop, redis: Redis, worker: WorkerServer
) -> None:
    made = await shop.orchestrator()
    assert not await is_ready(shop, made), "no worker has said anything"
    await report(redis, "worker-gone", made)
    assert not await is_ready(shop, made), "a worker without a heartbeat counts for nothing"
    await report(redis, "worker-a", made, "building")
    assert not await is_ready(shop, made)
    await report(redis, "worker-a", made)
    assert await is_ready(shop, made)

    changed = (await shop.admin.patch(shop.at(made), {"whoami": "new"})).json()
    assert not await is_ready(shop, made), "it still serves the old configuration"
    await report(redis, "worker-a", changed)
    assert await is_ready(shop, made)
    await shop.admin.patch(shop.at(made, "/status"), {"status": "suspended"})
    assert not await is_ready(shop, made)


async def test_status_says_why_a_build_failed(shop: Workshop, redis: Redis, worker: WorkerServer) -> None:
    made = await shop.orchestrator()
    await report(redis, "worker-a", made, "failed", reason="the model refused the key")
    status = (await shop.admin.get(shop.at(made, "/status"))).json()

    assert (status["revision"], status["is_unloaded"], status["is_ready"]) == (made["revision"], False, False)
    (state,) = status["workers"]
    assert (state["worker_id"], state["state"], state["is_current"]) == ("worker-a", "failed", True)
    assert state["reason"] == "the model refused the key"


async def test_load_unload_and_reload_are_accepted_and_stored_as_intent(shop: Workshop) -> None:
    made = await shop.orchestrator()
    last = made["revision"]
    steps: list[tuple[str, dict[str, Any] | None, dict[str, Any]]] = [
        ("/reload", None, {"is_unloaded": False, "tier": "demand"}),
        ("/unload", None, {"is_unloaded": True, "tier": "demand"}),
        ("/load", {"tier": "hot"}, {"is_unloaded": False, "tier": "hot"}),
        ("/unload", None, {"is_unloaded": True, "tier": "hot"}),
        ("/load", None, {"is_unloaded": False, "tier": "hot"}),
        ("/load", {}, {"is_unloaded": False, "tier": "hot"}),
    ]
    for rest, body, expected in steps:
        answer = (
            await shop.admin.post(shop.at(made, rest), body)
            if body is not None
            else await shop.admin.call("POST", shop.at(made, rest))
        )
        assert answer.status_code == 202, answer.text
        accepted = answer.json()
        assert set(accepted) == {"instance_id", "revision", "operation_id"}
        assert accepted["revision"] > last
        last = accepted["revision"]
        status = (await shop.admin.get(shop.at(made, "/status"))).json()
        assert {key: status[key] for key in expected} == expected
        assert (status["revision"], status["config_hash"]) == (last, made["config_hash"])


async def test_what_is_suspended_or_unloaded_cannot_be_reloaded(shop: Workshop) -> None:
    made = await shop.orchestrator()
    await shop.admin.call("POST", shop.at(made, "/unload"))
    assert (await shop.admin.call("POST", shop.at(made, "/reload"))).status_code == 409
    await shop.admin.patch(shop.at(made, "/status"), {"status": "suspended"})
    for rest in ("/load", "/reload"):
        assert (await shop.admin.call("POST", shop.at(made, rest))).status_code == 409
    assert (await shop.admin.post(shop.at(made, "/load"), {"tier": "lukewarm"})).status_code == 422


async def test_the_graph_is_drawn_by_a_worker(shop: Workshop, worker: WorkerServer) -> None:
    async def draw(_: WorkerServer, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != WORKER["Authorization"]:
            return web.Response(status=401)
        return web.Response(text="graph TD; supervisor_node-->control_tools")

    made = await shop.orchestrator()
    worker.answer = draw
    answer = await shop.member.get(shop.at(made, "/graph"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["mermaid"].startswith("graph TD")
    ((method, path, _, _),) = worker.requests
    assert (method, path) == ("GET", f"/internal/orchestrators/{made['instance_id']}/graph")

    await worker.stop()
    refused = await shop.member.get(shop.at(made, "/graph"))
    assert (refused.status_code, refused.json()["code"]) == (503, "SY-0004")
    assert "retry-after" in refused.headers


async def test_the_effective_configuration_names_where_each_value_came_from(
    shop: Workshop, resources: Resources
) -> None:
    schema = (
        {"key": "units", "type": "str", "description": "u", "default": "metric"},
        {"key": "token", "type": "str", "description": "t", "sensitive": True},
    )
    await add_plugin(resources, "com.example.weather", schema=schema)
    made = await shop.orchestrator(
        active_plugin_ids=["com.example.weather"],
        plugin_settings={"com.example.weather": {"token": "canary-token"}},
        config={
            "default_llm_config_id": shop.llm_config_id,
            "mode_config": {"max_tool_rounds": 7, "synthesizer_node": {"temperature": 0}},
        },
    )
    answer = await shop.member.get(shop.at(made, "/effective-config"))
    values = answer.json()["values"]

    assert values["config.mode_config.max_tool_rounds"] == {"value": 7, "source": "instance"}
    assert values["config.mode_config.run_timeout"] == {"value": 300, "source": "default"}
    assert values["config.mode_config.synthesizer_node.temperature"] == {"value": 0, "source": "instance"}
    assert values["config.default_llm_config_id"]["source"] == "instance"
    key = "plugin_settings.system:com.example.weather@1.0.0"
    assert values[f"{key}.units"] == {"value": "metric", "source": "default"}
    assert values[f"{key}.token"] == {"value": "***", "source": "instance"}
    assert "canary-token" not in answer.text


async def test_admins_of_the_platform_see_the_whole_fleet(
    shop: Workshop, root: Caller, redis: Redis, worker: WorkerServer
) -> None:
    made = await shop.orchestrator()
    await report(redis, "worker-a", made)
    stats = (await root.get("/api/admin/pool/stats")).json()
    workers = (await root.get("/api/admin/workers")).json()

    shared = {"shared_models", "shared_bundles", "shared_templates"}
    assert {"cold_count", "warm_count", "hot_count", "estimated_memory_mb", "pool_mb", "build_queue"} | shared <= set(
        stats
    )
    assert stats["workers"] == workers["items"]
    (shown,) = workers["items"]
    assert (shown["worker_id"], shown["url"], shown["capacity"]) == ("worker-a", worker.url, 10)
    assert [i["instance_id"] for i in shown["instances"]] == [made["instance_id"]]
    for path in ("/api/admin/pool/stats", "/api/admin/workers"):
        assert (await shop.admin.get(path)).status_code == 403


async def test_only_workers_may_ask_the_internal_routes(shop: Workshop, root: Caller, http: httpx.AsyncClient) -> None:
    made = await shop.orchestrator()
    for path in (
        f"/internal/snapshots/{made['instance_id']}",
        "/internal/changes?since=0",
        "/internal/retention",
        f"/internal/grants/{root.user_id}",
    ):
        for headers in ({}, {"Authorization": f"Bearer {root.token}"}, {"Authorization": WORKER["Authorization"][:-1]}):
            answer = await http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "AU-0001")
        assert (await http.get(path, headers=WORKER)).status_code == 200
    assert "/internal" not in (await http.get("/openapi.json")).text


async def observe(redis: Redis, worker: WorkerServer, revision: int) -> None:
    now = datetime.now(UTC)
    record = WorkerRecord(worker.worker_id, worker.url, "1", now, capacity=10, observed_revision=revision)
    await WorkerRegistry(redis, SystemClock()).announce(record)


async def load_and_wait(shop: Workshop, made: dict[str, Any], tier: str = "demand") -> "asyncio.Task[httpx.Response]":
    """Begun, and committed when this returns: others can see it while the caller waits."""
    loading = asyncio.create_task(shop.admin.post(shop.at(made, "/load?wait=applied"), {"tier": tier}))
    async with asyncio.timeout(5):
        while (await shop.member.get(shop.at(made))).json()["revision"] == made["revision"]:
            await asyncio.sleep(0.01)
    assert not loading.done()
    return loading


async def test_whoever_waits_is_told_when_every_worker_has_applied_it(
    shop: Workshop, redis: Redis, worker: WorkerServer
) -> None:
    made = await shop.orchestrator()
    async with worker_server("worker-b", redis) as other:
        loading = await load_and_wait(shop, made, "hot")
        current = (await shop.member.get(shop.at(made))).json()
        await observe(redis, worker, current["revision"])
        await observe(redis, other, current["revision"] - 1)
        await report(redis, "worker-a", current, "building", served_revision=made["revision"])
        assert not (await asyncio.wait({loading}, timeout=0.5))[0]
        await report(redis, "worker-a", current, served_revision=current["revision"])
        assert not (await asyncio.wait({loading}, timeout=0.5))[0], "worker-b has not heard of it"
        await observe(redis, worker, current["revision"])
        await observe(redis, other, current["revision"])
        answer = await loading
    assert answer.status_code == 200, answer.text
    assert (answer.json()["revision"], answer.json()["status"]["is_ready"]) == (current["revision"], True)
    (shown,) = answer.json()["status"]["workers"]
    assert (shown["observed_revision"], shown["served_revision"]) == (current["revision"], current["revision"])


async def test_whoever_waits_is_told_at_once_that_a_worker_could_not_build_it(
    shop: Workshop, redis: Redis, worker: WorkerServer
) -> None:
    made = await shop.orchestrator()
    loading = await load_and_wait(shop, made)
    current = (await shop.member.get(shop.at(made))).json()
    await report(redis, "worker-a", current, "failed", reason="no such model", served_revision=made["revision"])
    answer = await loading
    assert answer.status_code == 202
    (shown,) = answer.json()["status"]["workers"]
    assert (shown["state"], shown["reason"], shown["served_revision"]) == ("failed", "no such model", made["revision"])


async def test_nobody_waits_for_what_is_not_theirs_and_a_wait_leaves_one_entry(
    shop: Workshop, world: World, redis: Redis, worker: WorkerServer
) -> None:
    made = await shop.orchestrator()
    stranger = await world.tenant()
    foreign = f"{stranger.path}/orchestrators/{made['instance_id']}/load?wait=applied"
    assert (await stranger.admin.post(foreign, {})).status_code == 404
    assert (await shop.member.post(shop.at(made, "/load?wait=applied"), {})).status_code == 403
    assert (await shop.admin.post(shop.at(made, "/load?wait=forever"), {})).status_code == 422
    loading = await load_and_wait(shop, made)
    await observe(redis, worker, 2**40)
    assert (await loading).status_code == 200
    entries = (await shop.admin.get(f"{shop.tenant.path}/audit")).json()["items"]
    loads = [entry for entry in entries if entry["route"].endswith("/load") and entry["refused_with"] is None]
    assert len(loads) == 1
