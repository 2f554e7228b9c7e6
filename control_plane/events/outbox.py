"""The outbox: events commit in the transaction of the change they tell of, or not at all."""

from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Text, bindparam, cast, func, insert, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run_soon
from control_plane.database.statements import Question, Statement
from control_plane.events.tables import OutboxEvent
from shared.events import AnyEvent, encode_event, routing_key

CHANNEL = "cadence_outbox"
"""PostgreSQL tells listeners on this channel when, and only when, the transaction commits."""


async def record(session: AsyncSession, event: AnyEvent) -> None:
    """Store an event in the caller's transaction and wake the relay at its commit.

    Call it after `next_revision`: the lock taken there makes the order of the outbox the order of commits.
    """
    question = _RECORD(event_id=event.event_id, routing_key=routing_key(event), payload=encode_event(event))
    run_soon(session, question)


def recorded_with(event: AnyEvent) -> Question:
    """The same, to be asked together with what takes the revision of this transaction: the event gets that one."""
    payload = encode_event(event).decode()
    return _RECORD_WITH(event_id=event.event_id, routing_key=routing_key(event), payload=payload)


def _recording(payload: ColumnElement[bytes]) -> Statement:
    values: dict[str, ColumnElement[Any]] = {
        "event_id": bindparam("event_id"),
        "routing_key": bindparam("routing_key"),
        "payload": payload,
    }
    stored = insert(OutboxEvent).values(values).returning(OutboxEvent.sequence).cte("stored")
    return Statement(select(func.pg_notify(CHANNEL, "")).select_from(stored))


_REVISION = func.to_jsonb(func.currval(literal_column("'revision_seq'")))
_REVISED = func.jsonb_set(bindparam("payload", type_=JSONB), literal_column("'{revision}'"), _REVISION)
_RECORD = _recording(bindparam("payload", type_=LargeBinary))
_RECORD_WITH = _recording(func.convert_to(cast(_REVISED, Text), literal_column("'UTF8'")))
