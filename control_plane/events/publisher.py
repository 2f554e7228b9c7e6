"""The port through which the relay reaches the broker, and the choice of an implementation by URL scheme."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

CONNECT_SECONDS = 5.0
CONFIRM_SECONDS = 5.0

Confirmed: TypeAlias = Callable[[UUID], object]
"""Takes the id of an event that the broker keeps."""


class Outgoing(msgspec.Struct, frozen=True):
    """An event as it goes to the broker."""

    event_id: UUID
    routing_key: str
    payload: bytes


class EventPublisher(Protocol):
    """Hands events to the broker, in order.

    `start` may be called again after `stop`, and again after a failure of its own.
    """

    async def start(self) -> None:
        """Connect and declare what events need. Raises BrokerUnavailable."""
        ...

    async def publish(self, events: Sequence[Outgoing], confirmed: Confirmed) -> None:
        """Send them one behind the other, and return once the broker has confirmed that it keeps each of them. Raises
        BrokerUnavailable when it has not; those that were not `confirmed` until then may have arrived all the same.
        """
        ...

    async def forget(self, needle: bytes) -> int:
        """Remove events that hold `needle` from where the broker keeps them; how many. Raises BrokerUnavailable."""
        ...

    async def ping(self) -> bool:
        """Whether the broker answers right now."""
        ...

    async def stop(self) -> None:
        """Let go of the connection, whatever state it is in."""
        ...


def publisher_for(broker_url: str) -> EventPublisher:
    """A publisher for an `amqp(s)://` or `nats://` URL. Only the client of that broker is imported."""
    scheme = urlsplit(broker_url).scheme
    if scheme in ("amqp", "amqps"):
        from control_plane.events.rabbitmq import RabbitPublisher

        return RabbitPublisher(broker_url)
    if scheme == "nats":
        from control_plane.events.nats import NatsPublisher

        return NatsPublisher(broker_url)
    raise ValueError(f"no event publisher for the scheme {scheme!r}")
