"""Whether the process tells the truth about its dependencies, and comes back by itself when they do."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from control_plane.app import create_app
from deploy.local.server import Server
from shared.ids import new_id
from shared.workers import WorkerRecord, WorkerRegistry
from tests.integration.control_plane.callers import World, control_plane_settings
from tests.integration.control_plane.conftest import client_of
from tests.integration.control_plane.serving import started

PATIENCE_SECONDS = 20.0


async def until_answered(client: httpx.AsyncClient, path: str, status: int, **request: object) -> httpx.Response:
    """The first answer with that status, within a deadline."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await client.get(path, **request)  # type: ignore[arg-type]
        if answer.status_code == status:
            return answer
        assert time.monotonic() < give_up, answer.text
        await asyncio.sleep(0.05)


async def test_a_healthy_process_names_every_dependency(http: httpx.AsyncClient) -> None:
    ready = await http.get("/health/ready")

    assert ready.status_code == 200
    assert ready.headers["cache-control"] == "no-store"
    assert ready.json()["status"] == "ready"
    states = ready.json()["dependencies"]
    assert {name: (found["state"], found["is_needed"]) for name, found in states.items()} == {
        "postgres": ("up", True),
        "redis": ("up", True),
        "broker": ("up", False),
        "packages": ("up", False),
        "limits": ("up", False),
    }
    for path in ("/health", "/health/live", "/api/health", "/api/health/live"):
        assert (await http.get(path)).json() == {"status": "ok"}


async def test_without_the_broker_it_is_still_ready_and_says_what_is_missing(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    settings = control_plane_settings(postgres_url, redis_url, "nats://127.0.0.1:1", tmp_path)
    async with started(create_app(settings)) as app, client_of(app) as client:
        ready = await client.get("/health/ready")

    assert ready.status_code == 200
    assert ready.json()["dependencies"]["broker"]["state"] == "down"


@pytest.fixture
async def fragile(
    private_postgres: Server, private_redis: Server, nats_url: str, tmp_path: Path
) -> AsyncIterator[Litestar]:
    settings = control_plane_settings(private_postgres.url, private_redis.url, nats_url, tmp_path)
    async with started(create_app(settings)) as app:
        yield app


async def test_it_survives_its_stores_and_loses_nothing(
    fragile: Litestar, private_postgres: Server, private_redis: Server
) -> None:
    async with client_of(fragile) as client:
        world = World(client, fragile.state.resources)
        tenant = await world.tenant()
        mine = {"headers": {"Authorization": f"Bearer {tenant.admin.token}"}}

        for server, name in ((private_postgres, "postgres"), (private_redis, "redis")):
            server.stop()
            # A GET of the members needs both: Redis for the session, PostgreSQL for the rows.
            away = await tenant.admin.get(f"{tenant.path}/users")
            login = await client.post("/api/auth/login", json={"username": tenant.admin.username, "password": "x" * 8})
            ready = await client.get("/health/ready")
            live = await client.get("/health/live")

            for answer in (away, login):
                assert (answer.status_code, answer.json()["code"]) == (503, "DB-0001"), name
                assert int(answer.headers["retry-after"]) >= 1
            assert ready.status_code == 503
            assert ready.json()["dependencies"][name]["state"] == "down"
            assert live.status_code == 200

            server.start()
            back = await until_answered(client, f"{tenant.path}/users", 200, **mine)
            assert len(back.json()["items"]) == 2
            await until_answered(client, "/health/ready", 200)


async def test_a_change_of_access_fails_rather_than_leave_a_stale_grant(
    fragile: Litestar, private_redis: Server
) -> None:
    async with client_of(fragile) as client:
        resources = fragile.state.resources
        world = World(client, resources)
        tenant = await world.tenant()
        assert (await tenant.member.get(tenant.path)).status_code == 200

        private_redis.stop()
        refused = await tenant.admin.delete(f"{tenant.path}/users/{tenant.member.user_id}")
        private_redis.start()

        assert refused.status_code == 503
        mine = {"headers": {"Authorization": f"Bearer {tenant.admin.token}"}}
        members = await until_answered(client, f"{tenant.path}/users", 200, **mine)
        assert str(tenant.member.user_id) in members.text


async def test_metrics_tell_of_requests_by_route_and_of_the_fleet_and_name_nobody(
    http: httpx.AsyncClient, app: Litestar
) -> None:
    redis, clock = app.state.resources.redis, app.state.resources.clock
    busy = WorkerRecord("worker-a", "http://a", "0", clock.now(), active_runs=3, capacity=10, hot=2)
    joining = WorkerRecord("worker-b", "http://b", "0", clock.now(), capacity=10, joining=True)
    for record in (busy, joining):
        await WorkerRegistry(redis, clock).announce(record)
    organization = new_id()
    await http.get(f"/api/orgs/{organization}/llm-configs")
    text = (await http.get("/metrics")).text

    for line in (
        'cadence_http_requests_total{method="GET",route="/api/orgs/{org_id}/llm-configs",status="401"}',
        'cadence_fleet_workers{state="serving"} 1.0',
        'cadence_fleet_workers{state="joining"} 1.0',
        "cadence_fleet_active_runs 3.0",
        "cadence_fleet_run_capacity 10.0",
        "cadence_fleet_hot_instances 2.0",
    ):
        assert any(told.startswith(line) for told in text.splitlines()), line
    assert str(organization) not in text
    assert "worker-a" not in text
