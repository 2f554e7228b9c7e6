"""Stores that go away while orchestrators are configured."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from control_plane.auth.throttle import PER_USER
from control_plane.database import connection
from control_plane.database.commits import around_commit, commit
from control_plane.events.tables import OutboxEvent
from control_plane.wiring import Resources
from shared.settings import ControlPlaneSettings
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy
from tests.integration.control_plane.callers import PASSWORD, World, control_plane_settings
from tests.integration.control_plane.test_orchestrator_lifecycle import WORKER
from tests.integration.control_plane.test_orchestrators import events_of
from tests.integration.control_plane.workshop import Workshop

Wiring = tuple[dict[str, TcpProxy], tuple[str, str, str]]
"""The wires by store, and the URLs that lead through them."""


@pytest.fixture
async def wires(postgres_url: str, redis_url: str, nats_url: str) -> AsyncIterator[Wiring]:
    async with (
        tcp_proxy(postgres_url) as (postgres, through_postgres),
        tcp_proxy(redis_url) as (redis, through_redis),
        tcp_proxy(nats_url) as (broker, through_broker),
    ):
        wires = {"postgres": postgres, "redis": redis, "broker": broker}
        yield wires, (through_postgres, through_redis, through_broker)


@pytest.fixture
def settings(wires: Wiring, tmp_path: Path) -> ControlPlaneSettings:
    return control_plane_settings(*wires[1], tmp_path)


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_store_that_is_away_is_a_503_and_everything_works_again_when_it_is_back(
    wires: Wiring, store: str, world: World, http: httpx.AsyncClient, resources: Resources
) -> None:
    shop = await Workshop.open(world, resources)
    made = await shop.orchestrator()
    wire = wires[0][store]

    await wire.cut()
    for answer in (
        await shop.admin.get(shop.at(made)),
        await shop.admin.patch(shop.at(made), {"whoami": "while it is away"}),
        await shop.admin.post(shop.path, shop.body()),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "DB-0001")
        assert "retry-after" in answer.headers
    if store == "postgres":
        assert (await http.get("/internal/changes", headers=WORKER)).status_code == 503

    await wire.mend()
    assert (await shop.admin.get(shop.at(made))).json() == made, "nothing of a refused change is stored"
    changed = await shop.admin.patch(shop.at(made), {"whoami": "after it is back"})
    assert changed.status_code == 200
    assert len(await events_of(resources, made["instance_id"])) == 2


async def test_a_postgresql_that_hangs_is_a_503_and_locks_nobody_out(
    wires: Wiring, world: World, http: httpx.AsyncClient, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await Workshop.open(world, resources)
    made = await shop.orchestrator()
    body = {"username": shop.admin.username, "password": PASSWORD}
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
    wires[0]["postgres"].freeze()
    answers = await asyncio.gather(
        shop.admin.get(shop.at(made)),
        shop.admin.patch(shop.at(made), {"whoami": "while it hangs"}),
        *(http.post("/api/auth/login", json=body) for _ in range(PER_USER)),
    )
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "DB-0001")}

    wires[0]["postgres"].thaw()
    monkeypatch.undo()
    assert (await shop.admin.get(shop.at(made))).json() == made
    assert (await http.post("/api/auth/login", json=body)).status_code == 200


async def test_a_statement_that_is_given_up_holds_no_lock_and_its_connection_is_not_used_again(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with resources.database() as holder, resources.database() as waiter:
        await holder.execute(select(func.pg_advisory_xact_lock(7)))
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
        with pytest.raises(OperationalError):
            await waiter.execute(select(func.pg_advisory_xact_lock(7)))
        monkeypatch.undo()
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(10):
            while (await holder.execute(waiting)).scalar_one():
                await asyncio.sleep(0.02)
    async with resources.database() as session:
        assert (await session.execute(select(func.pg_try_advisory_xact_lock(7)))).scalar_one()


async def test_what_belongs_to_a_commit_happens_also_when_its_outcome_is_unknown(
    wires: Wiring, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    async def note() -> None:
        done.append(len(done))

    async with resources.database() as session:
        await session.execute(text("SELECT 1"))
        around_commit(session, note)
        monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
        wires[0]["postgres"].freeze()
        with pytest.raises(OperationalError):
            await commit(session)
        wires[0]["postgres"].thaw()
        monkeypatch.undo()
    assert done == [0, 1]


async def test_without_a_broker_changes_are_made_and_told_later(
    wires: Wiring, world: World, http: httpx.AsyncClient, resources: Resources
) -> None:
    shop = await Workshop.open(world, resources)
    await wires[0]["broker"].cut()
    made = await shop.orchestrator()
    feed = (await http.get("/internal/changes", headers=WORKER)).json()
    assert [change["instance_id"] for change in feed["changes"]] == [made["instance_id"]]

    await wires[0]["broker"].mend()
    async with asyncio.timeout(20):
        while await unpublished(resources):
            await asyncio.sleep(0.02)


async def unpublished(resources: Resources) -> int:
    async with resources.database() as session:
        query = select(func.count()).where(OutboxEvent.published_at.is_(None))
        return (await session.execute(query)).scalar_one()
