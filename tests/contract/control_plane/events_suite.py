"""What events promise on every broker. `test_events_on_….py` runs it against the real ones."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from control_plane.database.connection import BoundedConnection
from control_plane.database.engine import Database
from control_plane.database.revisions import next_revision
from control_plane.events.outbox import record
from control_plane.events.publisher import EventPublisher, Outgoing, publisher_for
from control_plane.events.relay import BATCH, Relay
from shared.errors import BrokerUnavailable
from shared.events import AnyEvent, OrchestratorReload, decode_event, encode_event
from shared.ids import new_id
from tests.fakes.tcp_proxy import tcp_proxy

SECONDS = 20.0


def owners_engine(postgres_owner_url: str) -> AsyncEngine:
    """The application's connections, as the login that sees everything without taking a scope."""
    return create_async_engine(
        postgres_owner_url.replace("postgresql://", "postgresql+psycopg://", 1),
        connect_args={"async_creator_fn": BoundedConnection.connect},
    )


class Inbox:
    """What one worker's queue delivered, in order."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._arrived = asyncio.Event()

    def take(self, event: AnyEvent) -> None:
        self.events.append(event)
        self._arrived.set()

    async def until(self, done: Callable[[list[AnyEvent]], bool]) -> list[AnyEvent]:
        async with asyncio.timeout(SECONDS):
            while not done(self.events):
                self._arrived.clear()
                await self._arrived.wait()
        return self.events

    def ids(self) -> list[UUID]:
        """Event ids in the order they first came; a broker may deliver one twice."""
        return list(dict.fromkeys(event.event_id for event in self.events))


def reload_event(revision: int = 1, instance_id: UUID | None = None) -> OrchestratorReload:
    return OrchestratorReload(
        event_id=new_id(),
        revision=revision,
        occurred_at=datetime.now(UTC),
        org_id=new_id(),
        instance_id=instance_id or new_id(),
        operation_id=new_id(),
    )


async def publish(publisher: EventPublisher, routing_key: str, payload: bytes, event_id: UUID) -> None:
    confirmed: list[UUID] = []
    await publisher.publish([Outgoing(event_id, routing_key, payload)], confirmed.append)
    assert confirmed == [event_id]


@asynccontextmanager
async def relaying(postgres_url: str, broker_url: str) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Relay(postgres_url, publisher_for(broker_url), poll_seconds=0.1).run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class EventsSuite(ABC):
    """Subclassed per broker, which supplies its URL and a consumer as a worker would be one."""

    @pytest.fixture
    @abstractmethod
    def broker_url(self) -> str:
        raise NotImplementedError

    @abstractmethod
    def listening(self, broker_url: str, worker_id: str, inbox: Inbox) -> AbstractAsyncContextManager[None]:
        """Consume a worker's queue; what cannot be decoded goes to the dead letters."""

    @abstractmethod
    async def take_and_crash(self, broker_url: str, worker_id: str) -> bytes:
        """Receive one message from an existing worker's queue and lose the connection before acknowledging it."""

    @abstractmethod
    async def dead_letter(self, broker_url: str) -> bytes:
        """The next dead letter."""

    @pytest.fixture
    async def engine(self, postgres_owner_url: str) -> AsyncIterator[AsyncEngine]:
        engine = owners_engine(postgres_owner_url)
        yield engine
        await engine.dispose()

    async def commit(self, engine: AsyncEngine, count: int, instance_id: UUID | None = None) -> list[UUID]:
        """Changes that each commit with their event; the events' ids."""
        made: list[UUID] = []
        for _ in range(count):
            async with Database(engine)() as session:
                made.append((await self._change(session, instance_id)).event_id)
                await session.commit()
        return made

    async def _change(self, session: AsyncSession, instance_id: UUID | None = None) -> OrchestratorReload:
        event = reload_event(await next_revision(session), instance_id)
        await record(session, event)
        return event

    async def unpublished(self, engine: AsyncEngine) -> int:
        async with engine.connect() as connection:
            return int(
                (await connection.execute(text("SELECT count(*) FROM outbox WHERE published_at IS NULL"))).scalar_one()
            )

    async def until_published(self, engine: AsyncEngine) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.unpublished(engine):
                await asyncio.sleep(0.01)

    async def test_every_worker_gets_every_event_in_the_order_of_the_commits(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        one, two = Inbox(), Inbox()
        async with (
            relaying(postgres_url, broker_url),
            self.listening(broker_url, "worker-one", one),
            self.listening(broker_url, "worker-two", two),
        ):
            sent = await self.commit(engine, 12, instance_id=new_id())
            for inbox in (one, two):
                await inbox.until(lambda events: len(events) >= 12)
                assert inbox.ids() == sent
            await self.until_published(engine)

    async def test_events_that_have_piled_up_keep_their_order(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with self.listening(broker_url, "worker-one", inbox):
            sent = await self.commit(engine, 3 * BATCH // 2, instance_id=new_id())
            async with relaying(postgres_url, broker_url):
                await inbox.until(lambda events: len(events) >= len(sent))
                assert [event.event_id for event in inbox.events] == sent
                await self.until_published(engine)

    async def test_only_what_the_broker_keeps_is_confirmed(self, broker_url: str) -> None:
        async with tcp_proxy(broker_url) as (wire, url):
            publisher = publisher_for(url)
            confirmed: list[UUID] = []
            await publisher.start()
            try:
                events = [reload_event() for _ in range(20)]
                batch = [Outgoing(event.event_id, "orchestrator.reload", encode_event(event)) for event in events]
                await publisher.publish(batch[:10], confirmed.append)
                assert confirmed == [event.event_id for event in events[:10]]
                await wire.cut()
                with pytest.raises(BrokerUnavailable):
                    await publisher.publish(batch[10:], confirmed.append)
                assert len(confirmed) == 10
            finally:
                await publisher.stop()

    async def test_a_change_that_is_rolled_back_is_never_told(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with relaying(postgres_url, broker_url), self.listening(broker_url, "worker-one", inbox):
            async with Database(engine)() as session:
                undone = await self._change(session)
                await session.rollback()
            (told,) = await self.commit(engine, 1)
            await inbox.until(lambda events: any(e.event_id == told for e in events))
            assert undone.event_id not in inbox.ids()

    async def test_events_recorded_while_the_broker_is_away_arrive_when_it_is_back(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with (
            tcp_proxy(broker_url) as (wire, url),
            self.listening(broker_url, "worker-one", inbox),
            relaying(postgres_url, url),
        ):
            before = await self.commit(engine, 2)
            await inbox.until(lambda events: len(events) >= 2)
            await wire.cut()
            during = await self.commit(engine, 3)
            assert await self.unpublished(engine) >= 3
            await wire.mend()
            await inbox.until(lambda events: len({e.event_id for e in events}) >= 5)
            assert inbox.ids() == before + during

    async def test_a_relay_that_starts_before_the_broker_waits_for_it(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with tcp_proxy(broker_url) as (wire, url), self.listening(broker_url, "worker-one", inbox):
            await wire.cut()
            async with relaying(postgres_url, url):
                sent = await self.commit(engine, 1)
                await wire.mend()
                await inbox.until(lambda events: len(events) >= 1)
                assert inbox.ids() == sent

    async def test_the_relay_goes_on_when_postgres_was_away(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with (
            tcp_proxy(postgres_url) as (wire, url),
            self.listening(broker_url, "worker-one", inbox),
            relaying(url, broker_url),
        ):
            before = await self.commit(engine, 1)
            await inbox.until(lambda events: len(events) >= 1)
            await wire.cut()
            during = await self.commit(engine, 2)
            await wire.mend()
            await inbox.until(lambda events: len({e.event_id for e in events}) >= 3)
            assert inbox.ids() == before + during

    async def test_of_two_relays_one_works_and_the_other_takes_over(
        self, broker_url: str, postgres_url: str, engine: AsyncEngine
    ) -> None:
        inbox = Inbox()
        async with (
            self.listening(broker_url, "worker-one", inbox),
            relaying(postgres_url, broker_url) as first,
            relaying(postgres_url, broker_url),
        ):
            sent = await self.commit(engine, 5)
            await inbox.until(lambda events: len(events) >= 5)
            await self.until_published(engine)
            assert [e.event_id for e in inbox.events] == sent, "two relays at once would publish twice"
            first.cancel()
            sent += await self.commit(engine, 3)
            await inbox.until(lambda events: len({e.event_id for e in events}) >= 8)
            assert inbox.ids() == sent

    async def test_a_message_whose_consumer_died_is_delivered_again(self, broker_url: str) -> None:
        publisher = publisher_for(broker_url)
        await publisher.start()
        try:
            async with self.listening(broker_url, "worker-one", Inbox()):
                pass  # the queue exists from here on, with nobody consuming
            event = reload_event()
            await publish(publisher, "orchestrator.reload", encode_event(event), event.event_id)
            assert decode_event(await self.take_and_crash(broker_url, "worker-one")) == event
            inbox = Inbox()
            async with self.listening(broker_url, "worker-one", inbox):
                assert (await inbox.until(bool))[0] == event
        finally:
            await publisher.stop()

    async def test_a_message_nobody_can_read_ends_with_the_dead_letters(self, broker_url: str) -> None:
        publisher = publisher_for(broker_url)
        await publisher.start()
        try:
            inbox = Inbox()
            async with self.listening(broker_url, "worker-one", inbox):
                await publish(publisher, "plugin.changed", b'{"event": "plugin.changed"', new_id())
                assert await self.dead_letter(broker_url) == b'{"event": "plugin.changed"'
                good = reload_event()
                await publish(publisher, "orchestrator.reload", encode_event(good), good.event_id)
                assert await inbox.until(bool) == [good]
        finally:
            await publisher.stop()

    async def test_a_publisher_says_when_the_broker_is_gone(self, broker_url: str) -> None:
        async with tcp_proxy(broker_url) as (wire, url):
            publisher = publisher_for(url)
            await publisher.start()
            try:
                assert await publisher.ping()
                await wire.cut()
                async with asyncio.timeout(SECONDS):
                    while await publisher.ping():
                        await asyncio.sleep(0.01)
                event = reload_event()
                with pytest.raises(BrokerUnavailable):
                    await publish(publisher, "orchestrator.reload", encode_event(event), event.event_id)
            finally:
                await publisher.stop()
            with pytest.raises(BrokerUnavailable):
                await publisher.start()
            assert not await publisher.ping()

    async def test_publishing_to_no_worker_at_all_is_not_an_error(self, broker_url: str) -> None:
        publisher = publisher_for(broker_url)
        await publisher.start()
        try:
            event = reload_event()
            await publish(publisher, "orchestrator.reload", encode_event(event), event.event_id)
        finally:
            await publisher.stop()
