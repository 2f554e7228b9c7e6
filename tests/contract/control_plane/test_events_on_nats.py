import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from control_plane.events.publisher import publisher_for
from shared.events import DEAD_LETTERS, decode_event, encode_event
from shared.events.topology import DEAD_STREAM, STREAM
from tests.contract.control_plane.events_suite import SECONDS, EventsSuite, Inbox, publish, reload_event
from tests.fakes.tcp_proxy import tcp_proxy

ACK_WAIT_SECONDS = 1.0


class TestEventsOnNats(EventsSuite):
    @pytest.fixture
    def broker_url(self, nats_url: str) -> str:
        return nats_url

    @asynccontextmanager
    async def listening(self, broker_url: str, worker_id: str, inbox: Inbox) -> AsyncIterator[None]:
        # Declares the streams when the relay has not come first.
        publisher = publisher_for(broker_url)
        await publisher.start()
        await publisher.stop()
        client = await nats.connect(broker_url)

        async def take(message: Msg) -> None:
            try:
                inbox.take(decode_event(message.data))
            except msgspec.MsgspecError:
                await client.jetstream().publish(DEAD_LETTERS, message.data)
            await message.ack()

        try:
            await client.jetstream().subscribe(
                "", stream=STREAM, durable=worker_id, config=_config(), cb=take, manual_ack=True
            )
            yield
        finally:
            await client.close()

    async def take_and_crash(self, broker_url: str, worker_id: str) -> bytes:
        async with tcp_proxy(broker_url) as (wire, url):
            client = await nats.connect(url, allow_reconnect=False)
            try:
                subscription = await client.jetstream().subscribe(
                    "", stream=STREAM, durable=worker_id, config=_config(), manual_ack=True
                )
                message = await subscription.next_msg(SECONDS)
                await wire.cut()
                return message.data
            finally:
                await client.close()

    async def dead_letter(self, broker_url: str) -> bytes:
        client: Client = await nats.connect(broker_url)
        try:
            subscription = await client.jetstream().subscribe(DEAD_LETTERS, stream=DEAD_STREAM)
            return (await subscription.next_msg(SECONDS)).data
        finally:
            await client.close()

    async def test_an_event_published_twice_is_kept_once(self, broker_url: str) -> None:
        publisher = publisher_for(broker_url)
        inbox = Inbox()
        async with self.listening(broker_url, "worker-one", inbox):
            await publisher.start()
            try:
                first, second = reload_event(), reload_event()
                for event in (first, first, second):
                    await publish(publisher, "orchestrator.reload", encode_event(event), event.event_id)
                assert await inbox.until(lambda events: len(events) >= 2) == [first, second]
            finally:
                await publisher.stop()

    async def test_a_stream_an_operator_configured_is_left_as_it_is(self, broker_url: str) -> None:
        client = await nats.connect(broker_url)
        try:
            subjects = ["orchestrator.*", "settings.*", "plugin.*"]
            await client.jetstream().add_stream(name=STREAM, subjects=subjects, max_age=60)
            publisher = publisher_for(broker_url)
            await asyncio.wait_for(publisher.start(), SECONDS)
            await publisher.stop()
            assert (await client.jetstream().stream_info(STREAM)).config.max_age == 60
        finally:
            await client.close()


def _config() -> ConsumerConfig:
    return ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_SECONDS, max_ack_pending=1)
