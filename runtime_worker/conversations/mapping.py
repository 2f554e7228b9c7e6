"""Between the structs the worker speaks and the documents MongoDB keeps.

Reading goes through Beanie's documents, writing through plain rows of the same shape: building and encoding a document
costs as much again as sending it, and a chat writes several times per run. What each turn of a conversation reads comes
from plain rows for the same reason.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.conversations.base import Conversation, Message, MessageRole, RunError, RunRecord, TokenUsage
from runtime_worker.conversations.documents import ConversationDocument, MessageDocument, RunDocument
from runtime_worker.engines.base import RunStatus
from runtime_worker.models.base import ModelMessage

_BSON_TYPES = (UUID, datetime, bytes)
"""What MongoDB keeps as it is."""


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    row = _row(conversation, "conversation_id")
    del row["message_count"]
    return row


def message_row(
    message: Message,
    *,
    starts: RunRecord | None = None,
    opens: Conversation | None = None,
    ends: RunRecord | None = None,
) -> dict[str, Any]:
    row = _row(message, "message_id")
    for part in row["tool_messages"]:
        for call in part["tool_calls"]:
            # Sealed reasoning is of use within its turn only, and there is more of it than of anything else.
            del call["signature"]
    if starts is not None:
        row["starts"] = run_row(starts)
    if ends is not None:
        row["ends"] = run_row(ends)
    if opens is not None:
        row["opens"] = conversation_row(opens)
    return row


def run_row(run: RunRecord) -> dict[str, Any]:
    return _row(run, "run_id")


def conversation_of(document: ConversationDocument) -> Conversation:
    return Conversation(
        conversation_id=document.id,
        instance_id=document.instance_id,
        user_id=document.user_id,
        title=document.title,
        created_at=document.created_at,
        updated_at=document.updated_at,
        summary_id=document.summary_id,
        compacted_through=document.compacted_through,
        context_tokens=document.context_tokens,
        resource_id=document.resource_id,
        anchor=document.anchor,
        last_agent=document.last_agent,
        central_id=document.central_id,
    )


def conversation_in(row: dict[str, Any]) -> Conversation:
    """Of a row; takes its id from it."""
    row["conversation_id"] = row.pop("_id")
    return msgspec.convert(row, Conversation, builtin_types=_BSON_TYPES)


def messages_in(rows: Sequence[dict[str, Any]]) -> list[Message]:
    """Of rows; takes their ids from them."""
    for row in rows:
        row["message_id"] = row.pop("_id")
    return msgspec.convert(rows, list[Message], builtin_types=_BSON_TYPES)


def message_of(document: MessageDocument) -> Message:
    return Message(
        message_id=document.id,
        conversation_id=document.conversation_id,
        run_id=document.run_id,
        role=msgspec.convert(document.role, MessageRole),
        content=document.content,
        created_at=document.created_at,
        tool_messages=msgspec.convert(document.tool_messages, tuple[ModelMessage, ...]),
        usage=msgspec.convert(document.usage, TokenUsage | None),
        status="partial" if document.status == "partial" else "complete",
        is_compacted=document.is_compacted,
    )


def run_of(document: RunDocument) -> RunRecord:
    return RunRecord(
        run_id=document.id,
        conversation_id=document.conversation_id,
        instance_id=document.instance_id,
        user_id=document.user_id,
        config_hash=document.config_hash,
        status=msgspec.convert(document.status, RunStatus),
        started_at=document.started_at,
        ended_at=document.ended_at,
        error=msgspec.convert(document.error, RunError | None),
        usage=msgspec.convert(document.usage, TokenUsage | None),
        last_seq=document.last_seq,
        message_id=document.message_id,
        answer_id=document.answer_id,
        resource_id=document.resource_id,
        agent_hops=document.agent_hops,
        current_agent=document.current_agent,
        epoch=document.epoch,
        api_key_id=document.api_key_id,
        usage_entry=document.usage_entry,
    )


def _row(struct: msgspec.Struct, id_field: str) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=_BSON_TYPES)
    # What MongoDB calls the id of a row.
    row["_id"] = row.pop(id_field)
    return row
