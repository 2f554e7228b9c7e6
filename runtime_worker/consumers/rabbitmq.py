"""Events from RabbitMQ: a queue of this process's own, bound to every topic."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue

from runtime_worker.consumers.base import MalformedEvent, OnHint, hint_of
from shared.events import DEAD_LETTERS, EXCHANGE
from shared.events.topology import WORKER_QUEUE_EXPIRES_SECONDS, worker_queue
from shared.logging import get_logger

CONNECT_SECONDS = 5.0
RECONNECT_SECONDS = 1.0
PREFETCH = 50

TOPIC = RabbitExchange(EXCHANGE, type=ExchangeType.TOPIC, durable=True)
DEAD_EXCHANGE = RabbitExchange(DEAD_LETTERS, type=ExchangeType.FANOUT, durable=True)
DEAD_QUEUE = RabbitQueue(DEAD_LETTERS, durable=True)

log = get_logger(__name__)


class RabbitListener:
    def __init__(self, url: str, worker_id: str, on_hint: OnHint, on_connected: Callable[[], None]) -> None:
        self._url = url
        self._worker_id = worker_id
        self._on_hint = on_hint
        self._on_connected = on_connected
        self._broker: RabbitBroker | None = None

    async def start(self) -> None:
        await self.stop()
        broker = self._broker = RabbitBroker(
            self._url,
            logger=None,
            timeout=CONNECT_SECONDS,
            reconnect_interval=RECONNECT_SECONDS,
            default_channel=Channel(prefetch_count=PREFETCH),
            on_reconnected=[self._reconnected],
        )
        queue = RabbitQueue(
            worker_queue(self._worker_id),
            durable=True,
            routing_key="#",
            arguments={
                "x-expires": WORKER_QUEUE_EXPIRES_SECONDS * 1000,
                "x-dead-letter-exchange": DEAD_LETTERS,
            },
        )
        broker.subscriber(queue, TOPIC, ack_policy=AckPolicy.MANUAL, decoder=_raw)(self._handle)
        async with asyncio.timeout(CONNECT_SECONDS):
            await broker.connect()
            # Before the queue that dead-letters into it.
            exchange = await broker.declare_exchange(DEAD_EXCHANGE)
            dead = await broker.declare_queue(DEAD_QUEUE)
            await dead.bind(exchange)
            await broker.start()

    async def wait_until_stale(self) -> None:
        # The client declares everything again when it reconnects.
        await asyncio.Event().wait()

    async def stop(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            # Leaving is a courtesy to a broker that may be away; the queue expires by itself.
            with suppress(Exception):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await broker.stop()

    async def is_connected(self) -> bool:
        return self._broker is not None and await self._broker.ping(timeout=1.0)

    async def _handle(self, message: RabbitMessage) -> None:
        try:
            hint = hint_of(message.body)
        except MalformedEvent as error:
            log.warning("event_dead_lettered", reason=str(error))
            await message.reject(requeue=False)
            return
        self._on_hint(*hint)
        await message.ack()

    def _reconnected(self, *_: Any) -> None:
        self._on_connected()


async def _raw(message: RabbitMessage) -> bytes:
    """The body as it came: what is none of our events must reach us, not fail in a decoder."""
    return message.body
