"""Listening to the control plane's events. They are hints: without a broker the worker only learns of changes later."""

import asyncio
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from shared.events import OrchestratorLoad, OrchestratorReload, OrchestratorUnload, decode_event
from shared.logging import get_logger

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 5.0

OnHint = Callable[[int, UUID | None], None]
"""Takes the revision an event tells of, and the instance if it is that of one. Returns at once."""

_OF_INSTANCES = (OrchestratorLoad, OrchestratorReload, OrchestratorUnload)

log = get_logger(__name__)


class MalformedEvent(Exception):
    """A message that is none of our events; it goes to the dead letters and never comes back."""


class BrokerListener(Protocol):
    """One broker's way of consuming: tells of every event, and of reconnecting, when some may have been missed."""

    async def start(self) -> None:
        """Connect, declare and consume. Raises whatever the broker's client raises; may be called again then."""
        ...

    async def wait_until_stale(self) -> None:
        """Return when the connection came back without what was declared on it, and `start` is needed again."""
        ...

    async def stop(self) -> None: ...

    async def is_connected(self) -> bool: ...


def hint_of(payload: bytes) -> tuple[int, UUID | None]:
    """What an event tells. Raises MalformedEvent."""
    try:
        event = decode_event(payload)
    except msgspec.MsgspecError as error:
        raise MalformedEvent(str(error)) from None
    return event.revision, event.instance_id if isinstance(event, _OF_INSTANCES) else None


class EventConsumer:
    """Keeps one listener running: tries until the broker answers, and again when what it declared was lost."""

    def __init__(self, listener: BrokerListener, on_connected: Callable[[], None]) -> None:
        self._listener = listener
        self._on_connected = on_connected
        self._has_started = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._start()
            log.info("broker_connected")
            self._on_connected()
            await self._listener.wait_until_stale()

    async def _start(self) -> None:
        delay, has_warned = FIRST_RETRY_SECONDS, False
        while True:
            try:
                await self._listener.start()
            except Exception as error:  # Each client raises a tree of its own; whatever it is, the worker polls on.
                if not has_warned:
                    log.warning("broker_unavailable", reason=type(error).__name__)
                has_warned = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_RETRY_SECONDS)
            else:
                self._has_started = True
                return

    async def stop(self) -> None:
        await self._listener.stop()

    async def is_connected(self) -> bool:
        return self._has_started and await self._listener.is_connected()


def listener_for(url: str, worker_id: str, on_hint: OnHint, on_connected: Callable[[], None]) -> BrokerListener:
    """The listener for the URL's scheme."""
    if urlsplit(url).scheme == "nats":
        from runtime_worker.consumers.nats import NatsListener

        return NatsListener(url, worker_id, on_hint, on_connected)
    from runtime_worker.consumers.rabbitmq import RabbitListener

    return RabbitListener(url, worker_id, on_hint, on_connected)
