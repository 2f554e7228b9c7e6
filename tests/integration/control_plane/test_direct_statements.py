"""Statements that go past the ORM, in the transaction of its session."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection, OperationalError
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.pool import QueuePool

from control_plane.database import kept
from control_plane.database.connection import BoundedConnection
from control_plane.database.direct import lazy_session, run, run_soon
from control_plane.database.engine import POOL_SIZE
from control_plane.database.line import Line
from control_plane.database.revisions import next_revision
from control_plane.database.scopes import PLATFORM_ROLE, TENANT_ROLE
from control_plane.database.statements import Question
from control_plane.events.outbox import record
from control_plane.events.tables import OutboxEvent
from control_plane.tiers.tables import Tier
from control_plane.wiring import Resources
from shared.events import CentralPointChanged
from shared.ids import new_id
from tests.integration.control_plane.callers import World
from tests.integration.control_plane.workshop import Workshop

WHO = Question(b"SELECT current_user::text, current_setting('app.org_id')")
FORGETS_AFTER = 8
"""The driver prepares what it has met five times, and with a rollback forgets all that was prepared."""


def _event(event_id: UUID) -> CentralPointChanged:
    return CentralPointChanged(
        event_id=event_id, revision=1, occurred_at=datetime.now(UTC), org_id=new_id(), central_id=new_id()
    )


async def _is_stored(resources: Resources, event_id: UUID) -> bool:
    async with resources.database() as session:
        query = select(func.count()).select_from(OutboxEvent).where(OutboxEvent.event_id == event_id)
        return bool((await session.execute(query)).scalar_one())


async def test_they_see_what_the_session_may_see_from_the_first_one_on(resources: Resources) -> None:
    org_id = new_id()
    async with resources.database(org_id) as session:
        assert await run(session, WHO, WHO) == [[(TENANT_ROLE, str(org_id))]] * 2
        await session.rollback()
        assert await run(session, WHO) == [[(TENANT_ROLE, str(org_id))]]
    async with resources.database() as session:
        assert await run(session, WHO) == [[(PLATFORM_ROLE, "")]]
    assert await resources.readers.read(org_id, WHO) == [(TENANT_ROLE, str(org_id))]
    assert await resources.readers.read(None, WHO) == [(PLATFORM_ROLE, "")]


async def test_they_are_prepared_again_when_a_rollback_made_the_server_forget_them(resources: Resources) -> None:
    for _ in range(FORGETS_AFTER):
        async with resources.database() as session:
            await next_revision(session)
            await session.execute(select(Tier))
            await session.rollback()


async def test_what_follows_one_that_fails_is_not_done(resources: Resources) -> None:
    event_id = new_id()
    async with resources.database() as session:
        await record(session, _event(event_id))
        with pytest.raises(DBAPIError):
            await run(session, Question(b"SELECT 1 / 0"), Question(b"COMMIT"))

    assert not await _is_stored(resources, event_id)


async def test_an_event_goes_with_the_commit_and_not_without_it(resources: Resources) -> None:
    committed, taken_back = new_id(), new_id()
    async with resources.database() as session:
        await record(session, _event(taken_back))
        await session.rollback()
        await record(session, _event(committed))
        await session.commit()

    assert await _is_stored(resources, committed)
    assert not await _is_stored(resources, taken_back)


async def test_what_is_asked_soon_is_answered_with_the_next_or_when_it_is_waited_for(resources: Resources) -> None:
    async with resources.database() as session:
        first, second = run_soon(session, WHO), run_soon(session, Question(b"SELECT 2"))
        assert await run(session, Question(b"SELECT 3")) == [[(3,)]]
        assert await first == [(PLATFORM_ROLE, "")]
        assert await second == [(2,)]
        assert await run_soon(session, Question(b"SELECT 4")) == [(4,)]


async def test_nothing_comes_after_the_last_change_of_a_transaction(resources: Resources) -> None:
    async with resources.database() as session:
        await lazy_session(session).run_and_end(Question(b"SELECT 1"))
        with pytest.raises(InvalidRequestError):
            await run(session, Question(b"SELECT 2"))
        with pytest.raises(InvalidRequestError):
            await session.execute(select(Tier))


async def test_what_people_change_often_takes_two_round_trips(
    world: World, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading and the changing, which is one with the event, the audit entry and the commit. What is only looked at
    takes one."""
    shop = await Workshop.open(world, resources)
    path, made = shop.tenant.path, await shop.orchestrator()
    point = await shop.central_point(made["instance_id"])
    trips = 0
    wait, ask_line = BoundedConnection.wait, Line.ask

    async def counted(connection: BoundedConnection, *arguments: Any, **options: Any) -> Any:
        nonlocal trips
        # The relay, which then hears of it, has a kind of its own.
        trips += type(connection) is BoundedConnection
        return await wait(connection, *arguments, **options)

    def counted_line(line: Line, *arguments: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return ask_line(line, *arguments, **options)

    credential = {"name": "another", "provider": "openai", "api_key": "sk-made-up-000001"}
    change, look = 2, 1
    for ask, status, expected in (
        (partial(shop.admin.patch, f"{path}/central-points/{point['central_id']}", {"name": "new"}), 200, change),
        (partial(shop.admin.post, f"{path}/llm-configs", credential), 201, change),
        (partial(shop.admin.patch, shop.at(made), {"whoami": "new"}), 200, change),
        (partial(shop.admin.get, f"{path}/central-points/{point['central_id']}"), 200, look),
        (partial(shop.admin.get, f"{path}/llm-configs/{shop.llm_config_id}"), 200, look),
        (partial(shop.admin.get, f"{path}/llm-configs?limit=1"), 200, look),
        (partial(shop.admin.get, shop.at(made)), 200, look),
    ):
        trips = 0
        monkeypatch.setattr(BoundedConnection, "wait", counted)
        monkeypatch.setattr(Line, "ask", counted_line)
        answer = await ask()
        monkeypatch.undo()
        assert (answer.status_code, trips) == (status, expected), answer.text


async def test_one_that_is_more_than_a_socket_takes_at_once_is_answered(resources: Resources) -> None:
    large = "x" * 16_000_000
    sent = Question(b"SELECT length($1::text)", (large,))
    assert await resources.readers.read(None, sent) == [(len(large),)]
    assert await resources.readers.read(None, Question(b"SELECT repeat('x', 16000000)")) == [(large,)]
    async with resources.database() as session:
        assert await run(session, sent) == [[(len(large),)]]


async def test_a_connection_that_the_server_ended_meanwhile_is_not_asked_again(
    resources: Resources, postgres_owner_url: str
) -> None:
    for _ in range(2):
        await resources.readers.read(None, WHO)
        async with resources.database() as session:
            await run(session, WHO)
        async with await AsyncConnection.connect(postgres_owner_url, autocommit=True) as owner:
            ended = await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'cadence-control-plane%' AND datname = current_database()"
            )
            assert await ended.fetchall()
        # Whoever waits for nothing hears of it, and does nothing about it.
        await asyncio.sleep(0.2)


async def test_one_that_is_not_answered_in_time_ends_its_connection_and_no_other(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "answer_seconds", 0.3)
    slow = Question(b"SELECT pg_sleep(20)")
    with pytest.raises(OperationalError):
        await resources.readers.read(None, slow)
    async with resources.database() as session:
        with pytest.raises(DBAPIError):
            await run(session, slow)
    monkeypatch.undo()
    assert await resources.readers.read(None, WHO) == [(PLATFORM_ROLE, "")]
    async with resources.database() as session:
        assert await run(session, WHO) == [[(PLATFORM_ROLE, "")]]


async def test_whoever_leaves_in_the_middle_leaves_a_connection_for_the_next(resources: Resources) -> None:
    async def change(is_slow: bool, *, with_orm: bool) -> None:
        async with resources.database() as session:
            await run(session, WHO)
            if with_orm:
                await session.execute(select(Tier))
            if is_slow:
                await run(session, Question(b"SELECT pg_sleep(20)"))

    # More often than there are connections.
    for number in range(2 * POOL_SIZE + 2):
        left = asyncio.create_task(change(True, with_orm=bool(number % 2)))
        # Wherever it is by then.
        await asyncio.sleep(0.002 * number)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
    await asyncio.gather(*(change(False, with_orm=bool(number % 2)) for number in range(2 * POOL_SIZE)))
    # What goes on in the background has one now and then.
    async with asyncio.timeout(10):
        while not resources.engine.pool.status().endswith("Current Checked out connections: 0"):
            await resources.kept.close()
            await asyncio.sleep(0.05)


async def test_sessions_hand_a_connection_on_and_ask_one_that_was_idle_for_long(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def process() -> int:
        async with resources.database(new_id()) as session:
            [[(process,)]] = await run(session, Question(b"SELECT pg_backend_pid()"))
            await session.commit()
        return int(process)

    first = await process()
    assert await process() == first
    monkeypatch.setattr(kept, "IDLE_SECONDS", 0.0)
    assert await process() == first


async def test_of_more_sessions_than_the_pool_keeps_connections_for_the_others_give_theirs_back(
    resources: Resources,
) -> None:
    async def ask() -> None:
        async with resources.database() as session:
            await run(session, Question(b"SELECT pg_sleep(0.2)"))
            await session.commit()

    await asyncio.gather(*(ask() for _ in range(POOL_SIZE + 4)))
    pool = resources.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() <= POOL_SIZE
    # All that there may be, for those who need the pool itself.
    async with AsyncExitStack() as open_sessions:
        for _ in range(POOL_SIZE):
            session = await open_sessions.enter_async_context(resources.database())
            await session.execute(select(Tier))
