"""OpenAI's protocol for an instance: any client of it that is pointed at `…/orchestrators/{instance_id}/v1` works."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter

from runtime_worker.http.auth import may
from runtime_worker.http.bodies import read_body
from runtime_worker.http.callers import AnyRequest
from runtime_worker.http.chat_schemas import (
    ChatCompletionAnswer,
    ChatCompletionBody,
    ChatTurn,
    ModelList,
    ModelOut,
    completion_of,
    turn_of,
)
from runtime_worker.http.handlers import get, post
from runtime_worker.http.openapi import documented
from runtime_worker.http.problems import answer_openai_error
from runtime_worker.http.turns import AFTER_A_RUN, BEFORE_A_RUN, answered, begun, streamed
from runtime_worker.http.visits import TOKEN_HEADER
from runtime_worker.stream.chat_chunks import ChatChunks
from runtime_worker.stream.sse import HEARTBEAT
from runtime_worker.stream.story import events_in
from runtime_worker.turn.request import TurnRequest
from runtime_worker.wiring import Worker
from shared.chat_settings import OnDisconnect
from shared.errors import OrchestratorDeactivated, OrchestratorNotLoaded
from shared.security.grants import Grant
from shared.security.permissions import Permission

CONVERSATION_HEADER = "X-Conversation-Id"
RUN_HEADER = "X-Run-Id"
_HEADERS = {"run_id": RUN_HEADER, "conversation_id": CONVERSATION_HEADER, "conversation_token": TOKEN_HEADER}

ConversationHeader = Annotated[
    str | None,
    HeaderParameter(name=CONVERSATION_HEADER, description="The same as `metadata.conversation_id`."),
]


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/v1/chat/completions",
    guards=[may(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*BEFORE_A_RUN, *AFTER_A_RUN, body=ChatCompletionBody, is_repeatable=True, speaks_openai=True),
)
async def chat_completions(
    request: AnyRequest,
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
    conversation: ConversationHeader = None,
) -> Response[ChatCompletionAnswer]:
    """Run one turn as a chat completion: one document, or chunks as server-sent events with `stream`.

    The API key of an OpenAI client is a session's token or an API key. A client that leaves has the run cancelled,
    unless `metadata.on_disconnect` says otherwise or an `Idempotency-Key` says that it may come back.
    """
    body = await read_body(request, ChatCompletionBody)
    to = Address(org_id, instance_id, model=instance_id)
    return await complete(request, worker, grant, to, body, turn_of(body, conversation))


@get(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/v1/models",
    guards=[may(Permission.CHAT_USE)],
    opt=documented(OrchestratorNotLoaded, OrchestratorDeactivated, speaks_openai=True),
)
async def models(org_id: FromPath[UUID], instance_id: FromPath[UUID], worker: NamedDependency[Worker]) -> ModelList:
    """The one model there is: the orchestrator."""
    snapshot = await worker.pool.snapshot(instance_id, org_id)
    return ModelList((model_out(instance_id, snapshot.name, org_id),))


def model_out(model: UUID, name: str, org_id: UUID) -> ModelOut:
    # The first 48 bits of a UUIDv7 are the milliseconds of its making.
    return ModelOut(id=str(model), name=name, created=(model.int >> 80) // 1000, owned_by=str(org_id))


class Address(msgspec.Struct, frozen=True):
    """Whom a completion is for. `model` is what the answer calls its model; `token_for` makes what a guest goes on with
    a conversation by."""

    org_id: UUID
    instance_id: UUID
    model: UUID
    central_id: UUID | None = None
    token_for: Callable[[UUID], str | None] = lambda _: None


async def complete(
    request: AnyRequest, worker: Worker, grant: Grant, to: Address, body: ChatCompletionBody, asked: ChatTurn
) -> Response[Any]:
    """The answer to a chat completion, whichever way it was addressed."""
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = partial(_chunks, model=str(to.model), with_usage=with_usage)
    # Whoever gives a key means to send the request again when its connection breaks, and to find the run going on.
    leaving: OnDisconnect = "continue" if "idempotency-key" in request.headers else "cancel"
    turn = TurnRequest(
        org_id=to.org_id,
        instance_id=to.instance_id,
        central_id=to.central_id,
        message=asked.message,
        conversation_id=asked.conversation_id,
        resource_id=asked.resource_id,
        is_followed=bool(body.stream),
        on_disconnect=asked.on_disconnect or leaving,
        brought=() if asked.conversation_id else asked.brought,
        dialect=chunks if body.stream else None,
    )
    run = await begun(request, worker, grant, turn)
    if not body.stream:
        answer = await answered(request, worker, grant, to.org_id, run)
        record = answer.record
        names = _names(to, record.run_id, record.conversation_id)
        completion = completion_of(record.run_id, record.started_at, str(to.model), answer.text, answer.usage, names)
        return Response(completion, headers=_headers(names))
    return await streamed(
        worker,
        grant,
        to.org_id,
        run,
        headers_for=lambda run_id, conversation_id: _headers(_names(to, run_id, conversation_id)),
        retold=lambda events, record: _retold(events, chunks(record.run_id, record.started_at)),
    )


def _chunks(run_id: UUID, created: datetime, *, model: str, with_usage: bool) -> ChatChunks:
    return ChatChunks(run_id, model=model, created=created, with_usage=with_usage)


async def _retold(events: AsyncIterator[bytes], chunks: ChatChunks) -> AsyncIterator[bytes]:
    async for raw in events:
        yield raw if raw == HEARTBEAT else b"".join(chunks.retold(events_in(raw)))


def _names(to: Address, run_id: UUID, conversation_id: UUID) -> dict[str, str]:
    token = to.token_for(conversation_id)
    return {
        "run_id": str(run_id),
        "conversation_id": str(conversation_id),
        **({"conversation_token": token} if token else {}),
    }


def _headers(names: dict[str, str]) -> dict[str, str]:
    return {_HEADERS[name]: value for name, value in names.items()}


router = Router(
    "/",
    route_handlers=[chat_completions, models],
    exception_handlers={Exception: answer_openai_error},
    tags=["chat, as OpenAI's"],
)
