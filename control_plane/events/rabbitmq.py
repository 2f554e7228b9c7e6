"""Events over RabbitMQ."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aio_pika.exceptions import AMQPError, PublishError
from faststream.exceptions import FastStreamException
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from control_plane.events.publisher import CONFIRM_SECONDS, CONNECT_SECONDS, Confirmed, Outgoing
from shared.errors import BrokerUnavailable
from shared.events import DEAD_LETTERS, EXCHANGE
from shared.logging import get_logger

log = get_logger(__name__)

TOPIC = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True)
DEAD_EXCHANGE = RabbitExchange(DEAD_LETTERS, type=ExchangeType.FANOUT, durable=True)
DEAD_QUEUE = RabbitQueue(DEAD_LETTERS, durable=True)

# The AMQP client raises its own tree, plain connection errors, time-outs, and RuntimeErrors for closed channels.
_BROKER_TROUBLE = (AMQPError, FastStreamException, OSError, TimeoutError, RuntimeError)


class RabbitPublisher:
    """Persistent messages to the topic exchange, each of which is confirmed."""

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._broker: RabbitBroker | None = None

    async def start(self) -> None:
        await self.stop()
        channel = Channel(publisher_confirms=True, on_return_raises=True)
        broker = RabbitBroker(self._url, logger=None, default_channel=channel, timeout=CONNECT_SECONDS)
        self._broker = broker
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await broker.connect()
                await broker.declare_exchange(TOPIC)
                exchange = await broker.declare_exchange(DEAD_EXCHANGE)
                queue = await broker.declare_queue(DEAD_QUEUE)
                await queue.bind(exchange)
        except _BROKER_TROUBLE as error:
            await self.stop()
            raise BrokerUnavailable(f"RabbitMQ does not answer ({type(error).__name__})") from error

    async def publish(self, events: Sequence[Outgoing], confirmed: Confirmed) -> None:
        if self._broker is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        # The channel sends in the order in which they begin.
        ended = await asyncio.gather(
            *(self._publish(self._broker, event, confirmed) for event in events), return_exceptions=True
        )
        if error := next((error for error in ended if error is not None), None):
            raise error

    async def _publish(self, broker: RabbitBroker, event: Outgoing, confirmed: Confirmed) -> None:
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await broker.publish(
                    event.payload,
                    exchange=TOPIC,
                    routing_key=event.routing_key,
                    persist=True,
                    mandatory=True,
                    message_id=str(event.event_id),
                    content_type="application/json",
                )
        except PublishError:
            # Returned: no queue is bound, which means that there is no worker now. One that starts later reads the
            # change feed, so nobody misses anything.
            log.info("event_had_no_listener", routing_key=event.routing_key, event_id=str(event.event_id))
        except _BROKER_TROUBLE as error:
            raise BrokerUnavailable(f"RabbitMQ did not confirm ({type(error).__name__})") from error
        confirmed(event.event_id)

    async def forget(self, needle: bytes) -> int:
        """Of dead letters. Workers take from their queues at once, and a queue that nobody takes from expires."""
        if self._broker is None:
            raise BrokerUnavailable("not connected to RabbitMQ")
        try:
            queue = await self._broker.declare_queue(DEAD_QUEUE)
            others, count = [], 0
            while (message := await queue.get(fail=False, timeout=CONFIRM_SECONDS)) is not None:
                if needle in message.body:
                    await message.ack()
                    count += 1
                else:
                    others.append(message)
            # In the end, or they would come again.
            for message in others:
                await message.nack(requeue=True)
            return count
        except _BROKER_TROUBLE as error:
            raise BrokerUnavailable(f"RabbitMQ did not answer ({type(error).__name__})") from error

    async def ping(self) -> bool:
        return self._broker is not None and await self._broker.ping(timeout=1.0)

    async def stop(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            with suppress(*_BROKER_TROUBLE):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await broker.stop()
