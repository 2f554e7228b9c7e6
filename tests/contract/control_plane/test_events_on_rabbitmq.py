import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from control_plane.events.publisher import publisher_for
from shared.events import DEAD_LETTERS, EXCHANGE, ROUTING_KEYS, decode_event, encode_event
from shared.events.topology import WORKER_QUEUE_EXPIRES_SECONDS, worker_queue
from tests.contract.control_plane.events_suite import SECONDS, EventsSuite, Inbox, publish, reload_event


class TestEventsOnRabbitMQ(EventsSuite):
    @pytest.fixture
    def broker_url(self, rabbitmq_url: str) -> str:
        return rabbitmq_url

    @asynccontextmanager
    async def listening(self, broker_url: str, worker_id: str, inbox: Inbox) -> AsyncIterator[None]:
        async def take(message: AbstractIncomingMessage) -> None:
            async with message.process(requeue=False):  # an exception rejects, which dead-letters
                inbox.take(decode_event(message.body))

        async with await aio_pika.connect(broker_url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1)
            exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            queue = await channel.declare_queue(
                worker_queue(worker_id),
                durable=True,
                arguments={
                    "x-dead-letter-exchange": DEAD_LETTERS,
                    "x-expires": WORKER_QUEUE_EXPIRES_SECONDS * 1000,
                },
            )
            for key in ROUTING_KEYS:
                await queue.bind(exchange, key)
            await queue.consume(take)
            yield

    async def take_and_crash(self, broker_url: str, worker_id: str) -> bytes:
        connection = await aio_pika.connect(broker_url)
        try:
            channel = await connection.channel()
            queue = await channel.get_queue(worker_queue(worker_id))
            message = await self._next(queue)
            return message.body
        finally:
            await connection.close()

    async def dead_letter(self, broker_url: str) -> bytes:
        async with await aio_pika.connect(broker_url) as connection:
            channel = await connection.channel()
            message = await self._next(await channel.get_queue(DEAD_LETTERS))
            await message.ack()
            return message.body

    @staticmethod
    async def _next(queue: aio_pika.abc.AbstractQueue) -> AbstractIncomingMessage:
        async with asyncio.timeout(SECONDS), queue.iterator() as messages:
            return await anext(messages)

    async def test_an_event_is_kept_on_disk_until_a_worker_takes_it(self, broker_url: str) -> None:
        publisher = publisher_for(broker_url)
        await publisher.start()
        try:
            async with self.listening(broker_url, "worker-one", Inbox()):
                pass
            event = reload_event()
            await publish(publisher, "orchestrator.reload", encode_event(event), event.event_id)
        finally:
            await publisher.stop()
        async with await aio_pika.connect(broker_url) as connection:
            channel = await connection.channel()
            message = await self._next(await channel.get_queue(worker_queue("worker-one")))
            assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
            assert message.message_id == str(event.event_id)
            await message.ack()
