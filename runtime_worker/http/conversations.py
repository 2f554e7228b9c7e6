"""Conversations and their messages. A member sees their own, an org_admin the organization's."""

from collections.abc import AsyncIterator
from typing import Annotated, cast
from uuid import UUID

import msgspec
from litestar import MediaType, Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from runtime_worker.conversations.base import Conversation
from runtime_worker.http.auth import may
from runtime_worker.http.bodies import read_body
from runtime_worker.http.callers import AnyRequest, sees_everything
from runtime_worker.http.handlers import delete, get, patch
from runtime_worker.http.openapi import documented
from runtime_worker.http.paging import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, decode_position, page_of
from runtime_worker.http.schemas import (
    ConversationExport,
    ConversationOut,
    ConversationPatch,
    MessageOut,
    Page,
    conversation_out,
    message_out,
)
from runtime_worker.http.telling import told
from runtime_worker.wiring import Worker
from shared.errors import ConversationBusy
from shared.security.grants import Grant
from shared.security.permissions import Permission

EXPORT_BATCH = 200

InstanceFilter = Annotated[
    UUID | None, QueryParameter(name="instance_id", description="Only conversations with this orchestrator.")
]


@get("/api/orgs/{org_id:uuid}/conversations", guards=[may(Permission.CHAT_HISTORY_READ)])
async def list_conversations(
    org_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
    instance_id: InstanceFilter = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[ConversationOut]:
    """Most recently used first."""
    rows = await worker.conversations.list(
        org_id,
        user_id=_whose(grant),
        instance_id=instance_id,
        after=decode_position(cursor),
        limit=limit + 1,
    )
    return page_of(rows, limit, key=lambda c: (c.updated_at, c.conversation_id), show=conversation_out)


@get("/api/orgs/{org_id:uuid}/conversations/{conversation_id:uuid}", guards=[may(Permission.CHAT_HISTORY_READ)])
async def get_conversation(
    org_id: FromPath[UUID],
    conversation_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> ConversationOut:
    """One conversation."""
    return conversation_out(await worker.conversations.get(org_id, conversation_id, user_id=_whose(grant)))


@patch(
    "/api/orgs/{org_id:uuid}/conversations/{conversation_id:uuid}",
    guards=[may(Permission.CHAT_USE)],
    opt=documented(body=ConversationPatch),
)
async def rename_conversation(
    request: AnyRequest,
    org_id: FromPath[UUID],
    conversation_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> ConversationOut:
    """Give it another title."""
    body = await read_body(request, ConversationPatch)
    async with told(request, worker, grant):
        renamed = await worker.conversations.rename(org_id, conversation_id, body.title, user_id=_whose(grant))
    return conversation_out(renamed)


@delete(
    "/api/orgs/{org_id:uuid}/conversations/{conversation_id:uuid}",
    guards=[may(Permission.CHAT_USE)],
    opt=documented(ConversationBusy),
)
async def delete_conversation(
    request: AnyRequest,
    org_id: FromPath[UUID],
    conversation_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> None:
    """Remove it with its messages and runs."""
    async with told(request, worker, grant):
        await worker.conversations.delete(org_id, conversation_id, user_id=_whose(grant))


@get(
    "/api/orgs/{org_id:uuid}/conversations/{conversation_id:uuid}/messages", guards=[may(Permission.CHAT_HISTORY_READ)]
)
async def list_messages(
    org_id: FromPath[UUID],
    conversation_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[MessageOut]:
    """Oldest first."""
    rows = await worker.conversations.messages(
        org_id,
        conversation_id,
        user_id=_whose(grant),
        after=decode_cursor(cursor, UUID),
        limit=limit + 1,
    )
    return page_of(rows, limit, key=lambda m: m.message_id, show=message_out)


@get("/api/orgs/{org_id:uuid}/conversations/{conversation_id:uuid}/export", guards=[may(Permission.CHAT_HISTORY_READ)])
async def export_conversation(
    org_id: FromPath[UUID],
    conversation_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> Response[ConversationExport]:
    """All of it as one file to keep, oldest message first."""
    conversation = await worker.conversations.get(org_id, conversation_id, user_id=_whose(grant))
    # Written as it is read: nobody holds a conversation that went on for a year.
    answer = Stream(
        _exported(worker, org_id, conversation),
        media_type=MediaType.JSON,
        headers={"Content-Disposition": f'attachment; filename="conversation-{conversation_id}.json"'},
    )
    # What its bytes come to, for the document.
    return cast("Response[ConversationExport]", answer)


async def _exported(worker: Worker, org_id: UUID, conversation: Conversation) -> AsyncIterator[bytes]:
    yield b'{"conversation":' + msgspec.json.encode(conversation_out(conversation)) + b',"messages":['
    after: UUID | None = None
    separator = b""
    while rows := await worker.conversations.messages(
        org_id, conversation.conversation_id, user_id=None, after=after, limit=EXPORT_BATCH
    ):
        yield separator + b",".join(msgspec.json.encode(message_out(row)) for row in rows)
        after, separator = rows[-1].message_id, b","
    yield b"]}"


def _whose(grant: Grant) -> UUID | None:
    """Whose conversations the caller sees; None for everybody's."""
    return None if sees_everything(grant) else grant.user_id


router = Router(
    "/",
    route_handlers=[
        list_conversations,
        get_conversation,
        rename_conversation,
        delete_conversation,
        list_messages,
        export_conversation,
    ],
    tags=["conversations"],
)
