"""Events over NATS JetStream."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from faststream.exceptions import FastStreamException
from faststream.nats import NatsBroker
from nats.errors import Error as NatsError
from nats.js.api import StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, BadRequestError, NotFoundError

from control_plane.events.publisher import CONFIRM_SECONDS, CONNECT_SECONDS, Confirmed, Outgoing
from shared.errors import BrokerUnavailable
from shared.events import DEAD_LETTERS
from shared.events.topology import (
    DEAD_MAX_AGE_SECONDS,
    DEAD_STREAM,
    DEDUPLICATION_SECONDS,
    STREAM,
    STREAM_MAX_AGE_SECONDS,
    STREAM_SUBJECTS,
)

_BROKER_TROUBLE = (NatsError, FastStreamException, OSError, TimeoutError)
_STREAM_EXISTS_DIFFERENTLY = 10058
"""JetStream's error code for a stream of that name with another configuration."""
_NO_MESSAGE = (10043, 10057)
"""JetStream's error codes for a sequence that holds nothing any more, of which it answers one as a server error."""


class NatsPublisher:
    """Messages kept by a JetStream stream, each of which it acknowledges."""

    _jetstream: JetStreamContext

    def __init__(self, broker_url: str) -> None:
        self._url = broker_url
        self._broker: NatsBroker | None = None

    async def start(self) -> None:
        await self.stop()
        # The relay reconnects; a client that does so as well would only hide for a while that nothing arrives.
        broker = NatsBroker(
            self._url,
            logger=None,
            connect_timeout=int(CONNECT_SECONDS),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=_already_reported,
        )
        self._broker = broker
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await broker.connect()
                # Not through FastStream, which waits for each message before the next.
                self._jetstream = broker.connection.jetstream()
                await _create(broker, STREAM, STREAM_SUBJECTS, STREAM_MAX_AGE_SECONDS)
                await _create(broker, DEAD_STREAM, (DEAD_LETTERS,), DEAD_MAX_AGE_SECONDS)
        except _BROKER_TROUBLE as error:
            await self.stop()
            raise BrokerUnavailable(f"NATS does not answer ({type(error).__name__})") from error

    async def publish(self, events: Sequence[Outgoing], confirmed: Confirmed) -> None:
        # A request over a connection that has just closed would only wait for its time-out.
        if self._broker is None or not self._broker.connection.is_connected:
            raise BrokerUnavailable("not connected to NATS")
        sent: dict[UUID, asyncio.Future[Any]] = {}
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                for event in events:
                    headers = {"content-type": "application/json", "Nats-Msg-Id": str(event.event_id)}
                    sent[event.event_id] = await self._jetstream.publish_async(
                        event.routing_key, event.payload, headers=headers, stream=STREAM
                    )
                await asyncio.gather(*sent.values())
        except _BROKER_TROUBLE as error:
            raise BrokerUnavailable(f"NATS did not confirm ({type(error).__name__})") from error
        finally:
            for event_id, acknowledged in sent.items():
                if acknowledged.done() and not acknowledged.cancelled() and acknowledged.exception() is None:
                    confirmed(event_id)

    async def forget(self, needle: bytes) -> int:
        if self._broker is None:
            raise BrokerUnavailable("not connected to NATS")
        try:
            return sum([await _forget(self._broker, stream, needle) for stream in (STREAM, DEAD_STREAM)])
        except _BROKER_TROUBLE as error:
            raise BrokerUnavailable(f"NATS did not answer ({type(error).__name__})") from error

    async def ping(self) -> bool:
        return self._broker is not None and await self._broker.ping(timeout=1.0)

    async def stop(self) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            with suppress(*_BROKER_TROUBLE):
                async with asyncio.timeout(CONNECT_SECONDS):
                    # Closing before stopping: stopping drains, which waits for a server that may be away.
                    await broker.connection.close()
                    await broker.stop()


async def _already_reported(_: Exception) -> None:
    """The client tells this callback too of what it raises."""


async def _forget(broker: NatsBroker, stream: str, needle: bytes) -> int:
    """A stream keeps events for an hour, or dead letters for two weeks: few enough to look at each."""
    jetstream, count = broker.connection.jetstream(), 0
    state = (await jetstream.stream_info(stream)).state
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        try:
            message = await jetstream.get_msg(stream, sequence)
        except NotFoundError:
            continue
        if needle in (message.data or b""):
            count += await _delete(jetstream, stream, sequence)
    return count


async def _delete(jetstream: JetStreamContext, stream: str, sequence: int) -> bool:
    """Whether it was there to be deleted: another control plane may be forgetting the same."""
    try:
        return await jetstream.delete_msg(stream, sequence)
    except APIError as error:
        if error.err_code not in _NO_MESSAGE:
            raise
        return False


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
