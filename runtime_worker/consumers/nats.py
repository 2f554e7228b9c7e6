"""Events from NATS JetStream: a consumer of this process's own over every subject of the stream."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError

from runtime_worker.consumers.base import MalformedEvent, OnHint, hint_of
from shared.events import DEAD_LETTERS
from shared.events.topology import (
    DEAD_MAX_AGE_SECONDS,
    DEAD_STREAM,
    DEDUPLICATION_SECONDS,
    STREAM,
    STREAM_MAX_AGE_SECONDS,
    STREAM_SUBJECTS,
    WORKER_QUEUE_EXPIRES_SECONDS,
    worker_queue,
)
from shared.logging import get_logger

CONNECT_SECONDS = 5.0
_STREAM_EXISTS_DIFFERENTLY = 10058
"""JetStream's error code for a stream of that name with another configuration."""

log = get_logger(__name__)


class NatsListener:
    def __init__(self, url: str, worker_id: str, on_hint: OnHint, on_connected: Callable[[], None]) -> None:
        self._url = url
        # A consumer's name holds no dots.
        self._consumer = worker_queue(worker_id).replace(".", "_")
        self._on_hint = on_hint
        self._on_connected = on_connected
        self._is_stale = asyncio.Event()
        self._broker: NatsBroker | None = None

    async def start(self) -> None:
        await self.stop()
        self._is_stale.clear()
        broker = self._broker = NatsBroker(
            self._url,
            logger=None,
            connect_timeout=int(CONNECT_SECONDS),
            reconnect_time_wait=1,
            max_reconnect_attempts=-1,
            reconnected_cb=self._reconnected,
        )
        broker.subscriber(
            ">",
            # Made below; left to itself the library would widen it to the subject.
            stream=JStream(STREAM, declare=False),
            # Older events tell nothing that the change feed does not.
            deliver_policy=DeliverPolicy.NEW,
            config=ConsumerConfig(name=self._consumer, inactive_threshold=WORKER_QUEUE_EXPIRES_SECONDS),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            decoder=_raw,
        )(self._handle)
        async with asyncio.timeout(CONNECT_SECONDS):
            await broker.connect()
            await _create(broker, STREAM, STREAM_SUBJECTS, STREAM_MAX_AGE_SECONDS)
            await _create(broker, DEAD_STREAM, (DEAD_LETTERS,), DEAD_MAX_AGE_SECONDS)
            await broker.start()

    async def wait_until_stale(self) -> None:
        await self._is_stale.wait()

    async def stop(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            # Leaving is a courtesy to a broker that may be away; the consumer expires by itself.
            with suppress(Exception):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await broker.connection.close()
                    await broker.stop()

    async def is_connected(self) -> bool:
        return self._broker is not None and await self._broker.ping(timeout=1.0)

    async def _handle(self, message: NatsMessage) -> None:
        try:
            hint = hint_of(message.body)
        except MalformedEvent as error:
            log.warning("event_dead_lettered", reason=str(error))
            if self._broker is not None:
                await self._broker.publish(message.body, DEAD_LETTERS, stream=DEAD_STREAM)
            # Only now: a message that could not be put aside comes again.
            await message.ack()
            return
        self._on_hint(*hint)
        await message.ack()

    async def _reconnected(self) -> None:
        """The consumer is ephemeral: a server that was restarted has forgotten it."""
        self._on_connected()
        self._is_stale.set()


async def _raw(message: NatsMessage) -> bytes:
    """The body as it came: what is none of our events must reach us, not fail in a decoder."""
    return message.body


async def _create(broker: NatsBroker, name: str, subjects: tuple[str, ...], max_age_seconds: int) -> None:
    config = StreamConfig(
        name=name,
        subjects=list(subjects),
        storage=StorageType.FILE,
        max_age=max_age_seconds,
        duplicate_window=DEDUPLICATION_SECONDS,
    )
    try:
        await broker.connection.jetstream().add_stream(config)
    except BadRequestError as error:
        if error.err_code != _STREAM_EXISTS_DIFFERENTLY:
            raise
