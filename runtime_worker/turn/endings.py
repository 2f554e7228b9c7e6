"""How a run's end is told: the last event of its stream, for those who were there and for those who come later."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import RunError, RunRecord, TokenUsage
from runtime_worker.engines.base import RunStatus
from runtime_worker.stream.story import Story, ToldEvent
from shared.errors import DomainError


class _Final(msgspec.Struct):
    status: RunStatus
    message_id: UUID | None = None
    usage: TokenUsage | None = None
    agent_hops: int = 0


def error_event(error: DomainError) -> dict[str, Any]:
    """What a client is told of an error in a stream."""
    return {"code": error.code, "message": error.detail, "retryable": error.retryable}


def last_event(record: RunRecord, *, saved: bool, error_code: str | None = None) -> tuple[str, dict[str, Any]]:
    """Name and data of the last event of a run that has ended. `error_code` is that of a run which ended in words."""
    if record.error is not None:
        error = record.error
        return "error", {"code": error.code, "message": error.message, "retryable": error.retryable}
    ended_at = record.ended_at or record.started_at
    return "metadata", {
        "final": True,
        "status": record.status,
        "message_id": record.message_id,
        "saved": saved,
        "usage": record.usage,
        "agent_hops": record.agent_hops,
        "duration_ms": round((ended_at - record.started_at).total_seconds() * 1000),
        **({"error_code": error_code} if error_code else {}),
    }


def ended_as_told(record: RunRecord, story: Story, last: ToldEvent, ended_at: datetime) -> RunRecord:
    """What a run is to be stored as whose end was told and not stored. The reverse of `last_event`."""
    ended = msgspec.structs.replace(record, ended_at=ended_at, last_seq=last.seq)
    if last.name == "error":
        error = msgspec.json.decode(last.data, type=RunError)
        # An error does not name the answer that it broke off.
        message_id = record.answer_id if story.text else None
        return msgspec.structs.replace(ended, status="failed", error=error, message_id=message_id)
    final = msgspec.json.decode(last.data, type=_Final)
    return msgspec.structs.replace(
        ended, status=final.status, message_id=final.message_id, usage=final.usage, agent_hops=final.agent_hops
    )
