"""The relay as it is run: beside the API, or as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.database.engine import Database
from control_plane.events import relay
from control_plane.events.background import relay_running
from control_plane.events.nats import NatsPublisher
from control_plane.events.outbox import record
from control_plane.events.publisher import Confirmed, Outgoing
from tests.contract.control_plane import test_events_on_nats as on_nats
from tests.contract.control_plane.events_suite import Inbox, owners_engine, relaying, reload_event

SECONDS = 20.0


@pytest.fixture
async def engine(postgres_owner_url: str) -> AsyncIterator[AsyncEngine]:
    engine = owners_engine(postgres_owner_url)
    yield engine
    await engine.dispose()


async def commit_event(engine: AsyncEngine) -> UUID:
    async with Database(engine)() as session:
        event = reload_event()
        await record(session, event)
        await session.commit()
    return event.event_id


async def until_left(engine: AsyncEngine, condition: str, count: int) -> None:
    async with asyncio.timeout(SECONDS), engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while (await connection.execute(text(f"SELECT count(*) FROM outbox WHERE {condition}"))).scalar_one() != count:
            await asyncio.sleep(0.02)


def environment(postgres_url: str, broker_url: str, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CADENCE_POSTGRES_URL": postgres_url,
        "CADENCE_REDIS_URL": "redis://127.0.0.1:1",
        "CADENCE_BROKER_URL": broker_url,
        "CADENCE_STORAGE_ROOT": str(home),
        "CADENCE_SECRET_KEY": "a key for tests that is long enough",
        "CADENCE_WORKER_TOKEN": "a token for tests that is long enough",
        "CADENCE_ENCRYPTION_KEYS": "k1:" + "ab" * 32,
    }


async def start_relay(variables: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "control_plane.relay", env=variables, stderr=asyncio.subprocess.PIPE
    )


async def test_a_relay_of_its_own_publishes_what_waits_and_goes_on_after_it_was_killed(
    engine: AsyncEngine, postgres_url: str, nats_url: str, tmp_path: Path
) -> None:
    await commit_event(engine)
    process = await start_relay(environment(postgres_url, nats_url, tmp_path))
    try:
        await until_left(engine, "published_at IS NULL", 0)
        process.kill()
        await process.wait()
        await commit_event(engine)
        process = await start_relay(environment(postgres_url, nats_url, tmp_path))
        await until_left(engine, "published_at IS NULL", 0)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), SECONDS) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_of_two_relays_that_are_killed_in_turns_no_event_is_lost_or_told_out_of_order(
    engine: AsyncEngine, postgres_url: str, nats_url: str, tmp_path: Path
) -> None:
    inbox, sent = Inbox(), list[UUID]()
    variables = environment(postgres_url, nats_url, tmp_path)
    async with on_nats.TestEventsOnNats().listening(nats_url, "worker-one", inbox):
        relays = [await start_relay(variables) for _ in range(2)]
        try:
            for number in range(2):
                sent += [await commit_event(engine) for _ in range(40)]
                relays[number].kill()
                await relays[number].wait()
                relays.append(await start_relay(variables))
            sent += [await commit_event(engine) for _ in range(40)]
            await until_left(engine, "published_at IS NULL", 0)
            await inbox.until(lambda events: len({event.event_id for event in events}) == len(sent))
        finally:
            for relay in relays:
                if relay.returncode is None:
                    relay.kill()
                    await relay.wait()
    assert inbox.ids() == sent


async def test_events_that_come_in_quick_succession_are_published_together(
    engine: AsyncEngine, postgres_url: str, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "GATHER_SECONDS", 1.0)
    publish, published = NatsPublisher.publish, list[int]()

    async def counted(self: NatsPublisher, events: Sequence[Outgoing], confirmed: Confirmed) -> None:
        await publish(self, events, confirmed)
        published.append(len(events))

    monkeypatch.setattr(NatsPublisher, "publish", counted)
    async with relay_running(postgres_url, nats_url):
        await commit_event(engine)
        await until_left(engine, "published_at IS NULL", 0)
        for _ in range(5):
            await commit_event(engine)
        await until_left(engine, "published_at IS NULL", 0)
    assert published == [1, 5]


async def test_a_relay_without_settings_says_what_is_missing() -> None:
    process = await start_relay({"PATH": os.environ["PATH"]})
    _, said = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 2
    assert b"CADENCE_BROKER_URL is not set" in said
    assert b"Traceback" not in said


async def test_what_was_published_long_ago_is_removed_and_nothing_else(
    engine: AsyncEngine, postgres_url: str, nats_url: str
) -> None:
    old, recent = await commit_event(engine), await commit_event(engine)
    async with engine.begin() as connection:
        for event_id, age in ((old, "25 hours"), (recent, "23 hours")):
            await connection.execute(
                text("UPDATE outbox SET published_at = now() - CAST(:age AS interval) WHERE event_id = :id"),
                {"age": age, "id": event_id},
            )
    async with relaying(postgres_url, nats_url):
        await commit_event(engine)
        await until_left(engine, f"event_id = '{old}'", 0)
        await until_left(engine, "published_at IS NOT NULL", 2)


async def test_a_relay_that_dies_stops_its_process(empty_postgres_url: str, nats_url: str) -> None:
    died = asyncio.Event()
    # A database without an outbox is nothing to wait for.
    async with relay_running(empty_postgres_url, nats_url, on_death=died.set):
        await asyncio.wait_for(died.wait(), SECONDS)
