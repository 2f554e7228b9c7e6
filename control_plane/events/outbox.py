"""The outbox: events commit in the transaction of the change they tell of, or not at all."""

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run_later
from control_plane.database.statements import Statement
from control_plane.events.tables import OutboxEvent
from shared.events import AnyEvent, encode_event, routing_key

CHANNEL = "cadence_outbox"
"""PostgreSQL tells listeners on this channel when, and only when, the transaction commits."""


async def record(session: AsyncSession, event: AnyEvent) -> None:
    """Store an event in the caller's transaction and wake the relay at its commit.

    Call it after `next_revision`: the lock taken there makes the order of the outbox the order of commits.
    """
    question = _RECORD(event_id=event.event_id, routing_key=routing_key(event), payload=encode_event(event))
    run_later(session, question)


_STORED = (
    insert(OutboxEvent)
    .values({name: bindparam(name) for name in ("event_id", "routing_key", "payload")})
    .returning(OutboxEvent.sequence)
    .cte("stored")
)
_RECORD = Statement(select(func.pg_notify(CHANNEL, "")).select_from(_STORED))
