"""What comes in and goes out of the worker's routes."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from runtime_worker.conversations.base import (
    AnswerStatus,
    Conversation,
    Message,
    MessageRole,
    RunError,
    RunRecord,
    TokenUsage,
)
from runtime_worker.engines.base import RunStatus
from shared.chat_settings import MAX_MESSAGE_CHARS, OnDisconnect

T = TypeVar("T")

MessageText = Annotated[str, Meta(min_length=1, max_length=MAX_MESSAGE_CHARS)]


class CompletionBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`on_disconnect` says what becomes of the run when its client leaves: it goes on and is saved, or is cancelled.

    Left out, the organization's setting decides. How long a message may be is a setting as well, 32 000 characters
    unless it was changed; the bound here is what that can be raised to. While another run of the conversation goes on,
    `concurrency` has this one refused with 409, or wait for its turn.
    """

    message: MessageText
    conversation_id: UUID | None = None
    resource_id: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    metadata: dict[str, Any] | None = None
    on_disconnect: OnDisconnect | None = None
    concurrency: Literal["reject", "queue"] = "reject"


class AddressedCompletionBody(CompletionBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for the routes without an instance in the path."""

    instance_id: UUID


class CentralCompletionBody(CompletionBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At a central point. `conversation_token` is what a guest, who has no session, goes on with a conversation by; the
    header `X-Conversation-Token` says the same."""

    conversation_token: Annotated[str, Meta(max_length=2000)] | None = None


class CompletionAnswer(msgspec.Struct, frozen=True):
    run_id: UUID
    conversation_id: UUID
    message_id: UUID | None
    response: str
    agent_hops: int
    current_agent: str | None
    usage: TokenUsage

    @classmethod
    def of(cls, record: RunRecord, text: str, usage: TokenUsage) -> Self:
        return cls(
            run_id=record.run_id,
            conversation_id=record.conversation_id,
            message_id=record.message_id,
            response=text,
            agent_hops=record.agent_hops,
            current_agent=record.current_agent,
            usage=usage,
        )


class CentralCompletionAnswer(CompletionAnswer, frozen=True):
    """`conversation_token` is there for a guest only, and replaces the one before."""

    conversation_token: str | None = None


class StartersOut(msgspec.Struct, frozen=True):
    """What a user could begin with, as the orchestrator's admins wrote it."""

    starters: tuple[str, ...]


class ConversationPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: Annotated[str, Meta(min_length=1, max_length=200)]


class ConversationOut(msgspec.Struct, frozen=True):
    conversation_id: UUID
    instance_id: UUID
    user_id: UUID
    title: str
    created_at: datetime
    updated_at: datetime
    message_count: int


class ToolCallOut(msgspec.Struct, frozen=True):
    """One call of a tool and what came back; `arguments` is the JSON text as the model wrote it."""

    call_id: str
    tool: str
    arguments: str
    result: str | None


class MessageOut(msgspec.Struct, frozen=True):
    """A message of role `summary` was written by the orchestrator itself: models get it instead of the messages that
    are marked `is_compacted`, which stay here.
    """

    message_id: UUID
    role: MessageRole
    content: str
    tool_calls: tuple[ToolCallOut, ...]
    usage: TokenUsage | None
    run_id: UUID
    is_compacted: bool
    status: AnswerStatus
    created_at: datetime


class ConversationExport(msgspec.Struct, frozen=True):
    conversation: ConversationOut
    messages: list[MessageOut]


class RunOut(msgspec.Struct, frozen=True):
    run_id: UUID
    conversation_id: UUID
    instance_id: UUID
    config_hash: str
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None
    error: RunError | None
    usage: TokenUsage | None
    last_seq: int


class Page(msgspec.Struct, Generic[T], frozen=True):
    """`next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


def conversation_out(conversation: Conversation) -> ConversationOut:
    return ConversationOut(
        conversation_id=conversation.conversation_id,
        instance_id=conversation.instance_id,
        user_id=conversation.user_id,
        title=conversation.title,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
        message_count=conversation.message_count,
    )


def message_out(message: Message) -> MessageOut:
    results = {m.tool_call_id: m.content for m in message.tool_messages if m.role == "tool"}
    calls = tuple(
        ToolCallOut(call_id=call.id, tool=call.name, arguments=call.arguments, result=results.get(call.id))
        for part in message.tool_messages
        for call in part.tool_calls
    )
    return MessageOut(
        message_id=message.message_id,
        role=message.role,
        content=message.content,
        tool_calls=calls,
        usage=message.usage,
        run_id=message.run_id,
        is_compacted=message.is_compacted,
        status=message.status,
        created_at=message.created_at,
    )


def run_out(run: RunRecord) -> RunOut:
    return RunOut(
        run_id=run.run_id,
        conversation_id=run.conversation_id,
        instance_id=run.instance_id,
        config_hash=run.config_hash,
        status=run.status,
        started_at=run.started_at,
        ended_at=run.ended_at,
        error=run.error,
        usage=run.usage,
        last_seq=run.last_seq,
    )
