"""How a run's end is told: the last event of its stream, for those who were there and for those who come later."""

from typing import Any

from runtime_worker.conversations.base import RunRecord
from shared.errors import DomainError


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
