"""What a worker's ear must do on either broker: hear every event, put aside what is none, and come back by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import aio_pika
import pytest
from faststream.nats import NatsBroker
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange

from deploy.local.server import Server
from runtime_worker.consumers.base import EventConsumer, listener_for
from shared.events import DEAD_LETTERS, EXCHANGE, OrchestratorReload, PluginChanged, encode_event, routing_key
from shared.events.topology import DEAD_STREAM, STREAM
from shared.ids import new_id

SECONDS = 15.0


def reload_event(revision: int) -> OrchestratorReload:
    return OrchestratorReload(
        event_id=new_id(),
        revision=revision,
        occurred_at=datetime.now(UTC),
        org_id=new_id(),
        instance_id=new_id(),
        operation_id=new_id(),
    )


class Ear:
    """One worker's consumer with what it heard."""

    def __init__(self, url: str, worker_id: str) -> None:
        self.heard: list[int] = []
        self.instances: list[UUID | None] = []
        self.connections = 0
        listener = listener_for(url, worker_id, self._hear, self._connected)
        self.consumer = EventConsumer(listener, self._connected)

    def _hear(self, revision: int, instance_id: UUID | None) -> None:
        self.heard.append(revision)
        self.instances.append(instance_id)

    def _connected(self) -> None:
        self.connections += 1

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not check():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(url: str, worker_id: str = "worker-1") -> AsyncIterator[Ear]:
    ear = Ear(url, worker_id)
    task = asyncio.create_task(ear.consumer.run())
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ear.consumer.stop()


class NatsSpeaker:
    def __init__(self, url: str) -> None:
        self._broker = NatsBroker(url, logger=None)
        self._read = 0

    async def __aenter__(self) -> "NatsSpeaker":
        await self._broker.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._broker.stop()

    async def say(self, topic: str, payload: bytes) -> None:
        await self._broker.publish(payload, topic, stream=STREAM)

    async def dead_letters(self) -> list[bytes]:
        """Those that came since the last time."""
        stream = self._broker.connection.jetstream()
        info = await stream.stream_info(DEAD_STREAM)
        since, self._read = self._read, info.state.last_seq
        return [(await stream.get_msg(DEAD_STREAM, seq)).data or b"" for seq in range(since + 1, self._read + 1)]


class RabbitSpeaker:
    def __init__(self, url: str) -> None:
        self._url = url
        self._broker = RabbitBroker(url, logger=None)
        self._exchange = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True)

    async def __aenter__(self) -> "RabbitSpeaker":
        await self._broker.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._broker.stop()

    async def say(self, topic: str, payload: bytes) -> None:
        await self._broker.publish(payload, exchange=self._exchange, routing_key=topic, persist=True)

    async def dead_letters(self) -> list[bytes]:
        """Those that came since the last time."""
        connection = await aio_pika.connect(self._url)
        async with connection:
            queue = await (await connection.channel()).get_queue(DEAD_LETTERS)
            found: list[bytes] = []
            while (message := await queue.get(fail=False)) is not None:
                found.append(message.body)
                await message.ack()
        return found


@pytest.fixture(params=["nats", pytest.param("rabbitmq", marks=pytest.mark.xdist_group("rabbitmq"))])
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def speaker(url: str) -> NatsSpeaker | RabbitSpeaker:
    return NatsSpeaker(url) if url.startswith("nats") else RabbitSpeaker(url)


async def test_every_worker_hears_every_event_of_every_kind(broker_url: str) -> None:
    async with listening(broker_url, "worker-1") as one, listening(broker_url, "worker-2") as two:
        await one.until(lambda: one.connections > 0 < two.connections)
        changed = PluginChanged(
            event_id=new_id(),
            revision=2,
            occurred_at=datetime.now(UTC),
            source="org",
            pid="com.acme.x",
            version="1.0.0",
            digest="0" * 64,
        )
        async with speaker(broker_url) as voice:
            for event in (reloaded := reload_event(1), changed):
                await voice.say(routing_key(event), encode_event(event))
        await one.until(lambda: sorted(one.heard) == sorted(two.heard) == [1, 2])
        assert dict(zip(one.heard, one.instances, strict=True)) == {1: reloaded.instance_id, 2: None}


async def test_what_is_none_of_our_events_goes_to_the_dead_letters_once(broker_url: str) -> None:
    async with listening(broker_url) as ear:
        await ear.until(lambda: ear.connections > 0)
        async with speaker(broker_url) as voice:
            await voice.say("orchestrator.reload", b'{"event":"orchestrator.reload"}')
            await voice.say("orchestrator.reload", b"\xff\x00 not json")
            await voice.say("orchestrator.reload", encode_event(reload_event(7)))
            await ear.until(lambda: ear.heard == [7])
            dead: list[bytes] = []
            async with asyncio.timeout(SECONDS):
                while len(dead) < 2:
                    dead += await voice.dead_letters()
            assert sorted(dead) == sorted([b'{"event":"orchestrator.reload"}', b"\xff\x00 not json"])


async def test_a_broker_that_comes_late_or_goes_away_is_found_again(private_nats: Server) -> None:
    private_nats.stop()
    async with listening(private_nats.url) as ear:
        assert not await ear.consumer.is_connected()
        private_nats.start()
        await ear.until(lambda: ear.connections > 0)
        private_nats.kill()
        before = ear.connections
        private_nats.start()
        # Events may have been missed, so the change feed has to be asked; and later ones are heard again.
        await ear.until(lambda: ear.connections > before + 1)
        async with NatsSpeaker(private_nats.url) as voice:
            await voice.say("orchestrator.reload", encode_event(reload_event(9)))
        await ear.until(lambda: 9 in ear.heard)
