"""Questions that share a connection have nothing else in common."""

import asyncio

import pytest
from psycopg import AsyncConnection, DataError
from psycopg.errors import DivisionByZero, OperationalError

from control_plane.database.connection import BoundedConnection
from control_plane.database.scopes import PLATFORM_ROLE, TENANT_ROLE
from control_plane.database.statements import Question
from control_plane.wiring import Resources
from shared.ids import new_id

WHO = Question(b"SELECT current_user::text, current_setting('app.org_id'), pg_backend_pid()")
FAILS = Question(b"SELECT 1 / 0")
SLOW = Question(b"SELECT pg_sleep(20)")


async def test_each_is_asked_for_its_own_organization(resources: Resources) -> None:
    org_ids = [new_id() for _ in range(20)]
    answers = await asyncio.gather(
        *(resources.readers.read(org_id, WHO) for org_id in org_ids), resources.readers.read(None, WHO)
    )
    found = [rows[0][:2] for rows in answers]
    assert found == [*((TENANT_ROLE, str(org_id)) for org_id in org_ids), (PLATFORM_ROLE, "")]
    assert len({rows[0][2] for rows in answers}) == 1


async def test_questions_come_while_others_are_answered(resources: Resources) -> None:
    async def ask(*, is_interested: bool) -> None:
        for _ in range(50):
            org_id = new_id()
            asked = asyncio.create_task(resources.readers.read(org_id, WHO))
            await asyncio.sleep(0)
            if is_interested:
                assert (await asked)[0][1] == str(org_id)
            else:
                asked.cancel()

    async with asyncio.timeout(20):
        await asyncio.gather(*(ask(is_interested=bool(number % 3)) for number in range(9)))


async def test_one_that_fails_fails_alone(resources: Resources) -> None:
    async def ask(question: Question) -> object:
        try:
            return (await resources.readers.read(None, question))[0][0]
        except (DivisionByZero, DataError) as error:
            return type(error)

    refused = Question(b"SELECT $1::text", ("\0",))
    for _ in range(2):
        answers = await asyncio.gather(*(ask(question) for question in (WHO, FAILS, WHO, refused, WHO)))
        assert answers == [PLATFORM_ROLE, DivisionByZero, PLATFORM_ROLE, DataError, PLATFORM_ROLE]


async def test_nobody_waits_for_one_that_takes_long(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = asyncio.create_task(resources.readers.read(None, SLOW))
    await asyncio.sleep(0)
    answers = await asyncio.gather(*(resources.readers.read(None, WHO) for _ in range(20)))
    assert [rows[0][0] for rows in answers] == [PLATFORM_ROLE] * 20
    assert not slow.done()

    # Its time is up, and so are the connection and the statement in the server.
    monkeypatch.setattr(BoundedConnection, "answer_seconds", 0.3)
    with pytest.raises(OperationalError):
        await slow
    going_on = Question(
        b"SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'"
    )
    async with asyncio.timeout(10):
        while await resources.readers.read(None, going_on) != [(0,)]:
            await asyncio.sleep(0.05)


async def test_those_who_left_take_nobody_elses_answer(resources: Resources) -> None:
    leaving = [asyncio.create_task(resources.readers.read(None, Question(b"SELECT pg_sleep(0.05)"))) for _ in range(5)]
    await asyncio.sleep(0.01)
    for task in leaving:
        task.cancel()
    assert (await resources.readers.read(None, WHO))[0][0] == PLATFORM_ROLE


async def test_what_is_lost_with_its_connection_is_asked_once_more(
    resources: Resources, postgres_owner_url: str
) -> None:
    asked = asyncio.create_task(resources.readers.read(None, Question(b"SELECT pg_sleep(1), 'answered'")))
    async with await AsyncConnection.connect(postgres_owner_url, autocommit=True) as owner, asyncio.timeout(10):
        ended: list[tuple[bool]] = []
        while not ended:
            cursor = await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'cadence-control-plane-reader' AND state = 'active'"
            )
            ended = await cursor.fetchall()
        assert (await asked)[0][1] == "answered"


async def test_one_whose_table_has_changed_since_it_was_prepared_is_answered(
    resources: Resources, postgres_owner_url: str
) -> None:
    all_of_it = Question(b"SELECT * FROM changing")
    async with await AsyncConnection.connect(postgres_owner_url, autocommit=True) as owner:
        await owner.execute("CREATE TABLE changing AS SELECT 1 AS a")
        await owner.execute(f"GRANT SELECT ON changing TO {PLATFORM_ROLE}")
        assert await resources.readers.read(None, all_of_it) == [(1,)]
        await owner.execute("ALTER TABLE changing ADD b int DEFAULT 2")
        assert await resources.readers.read(None, all_of_it) == [(1, 2)]
