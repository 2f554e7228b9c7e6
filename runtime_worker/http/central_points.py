"""Talking to whichever instance a central point leads to, in our own protocol and in OpenAI's."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter

from runtime_worker.http.bodies import read_body
from runtime_worker.http.callers import AnyRequest
from runtime_worker.http.chat_completions import (
    CONVERSATION_HEADER,
    Address,
    ConversationHeader,
    complete,
    model_out,
)
from runtime_worker.http.chat_schemas import ChatCompletionAnswer, ChatCompletionBody, ModelList, turn_of
from runtime_worker.http.handlers import get, post
from runtime_worker.http.openapi import documented
from runtime_worker.http.problems import answer_openai_error
from runtime_worker.http.schemas import CentralCompletionAnswer, CentralCompletionBody
from runtime_worker.http.turns import AFTER_A_RUN, BEFORE_A_RUN, answered, begun, streamed
from runtime_worker.http.visits import TOKEN_HEADER, Guest, Visit, VisitGuard, token_for, who_talks
from runtime_worker.turn.request import TurnRequest
from runtime_worker.wiring import Worker
from shared.errors import ConversationTokenRefused, RateLimited
from shared.security.permissions import Permission

POINT = "/api/orgs/{org_id:uuid}/central-points/{central_id:uuid}"
_BEFORE = (*BEFORE_A_RUN, RateLimited, ConversationTokenRefused)

TokenHeader = Annotated[
    str | None,
    HeaderParameter(name=TOKEN_HEADER, description="What a guest goes on with a conversation by."),
]


@post(
    POINT + "/completion/stream",
    guards=[VisitGuard(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*_BEFORE, body=CentralCompletionBody, streams=True, is_repeatable=True),
)
async def stream_of_point(
    request: AnyRequest,
    org_id: FromPath[UUID],
    central_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    worker: NamedDependency[Worker],
    token: TokenHeader = None,
) -> Response[Any]:
    """Run one turn and stream its events. A guest finds what to go on with in `X-Conversation-Token`."""
    body = await read_body(request, CentralCompletionBody)
    guest = who_talks(worker, visit, token or body.conversation_token, body.conversation_id)
    run = await begun(request, worker, guest.grant, _turn(visit, guest, body, is_followed=True))

    def headers_for(_: UUID, conversation_id: UUID) -> dict[str, str]:
        return _headers(conversation_id, token_for(worker, visit, guest.grant.user_id, conversation_id))

    return await streamed(worker, guest.grant, org_id, run, headers_for=headers_for)


@post(
    POINT + "/completion/chat",
    guards=[VisitGuard(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*_BEFORE, *AFTER_A_RUN, body=CentralCompletionBody, is_repeatable=True),
)
async def chat_of_point(
    request: AnyRequest,
    org_id: FromPath[UUID],
    central_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    worker: NamedDependency[Worker],
    token: TokenHeader = None,
) -> Response[CentralCompletionAnswer]:
    """Run one turn and answer when it has ended."""
    body = await read_body(request, CentralCompletionBody)
    guest = who_talks(worker, visit, token or body.conversation_token, body.conversation_id)
    run = await begun(request, worker, guest.grant, _turn(visit, guest, body, is_followed=False))
    answer = await answered(request, worker, guest.grant, org_id, run)
    record = answer.record
    token = token_for(worker, visit, guest.grant.user_id, record.conversation_id)
    completion = CentralCompletionAnswer.of(record, answer.text, answer.usage)
    completion = msgspec.structs.replace(completion, conversation_token=token)
    return Response(completion, headers=_headers(record.conversation_id, token))


@post(
    POINT + "/v1/chat/completions",
    guards=[VisitGuard(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*_BEFORE, *AFTER_A_RUN, body=ChatCompletionBody, is_repeatable=True, speaks_openai=True),
)
async def chat_completions_of_point(
    request: AnyRequest,
    org_id: FromPath[UUID],
    central_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    worker: NamedDependency[Worker],
    conversation: ConversationHeader = None,
    token: TokenHeader = None,
) -> Response[ChatCompletionAnswer]:
    """Run one turn as a chat completion. An OpenAI client without a key sends `public` as its key.

    A guest finds what to go on with in `X-Conversation-Token` and in the answer's `metadata`, and sends it back in
    either.
    """
    body = await read_body(request, ChatCompletionBody)
    asked = turn_of(body, conversation)
    guest = who_talks(worker, visit, token or asked.token, asked.conversation_id)
    to = Address(
        org_id,
        visit.point.instance_id,
        model=central_id,
        central_id=central_id,
        token_for=partial(token_for, worker, visit, guest.grant.user_id),
    )
    asked = msgspec.structs.replace(asked, conversation_id=guest.conversation_id)
    return await complete(request, worker, guest.grant, to, body, asked)


@get(
    POINT + "/v1/models",
    guards=[VisitGuard(Permission.CHAT_USE)],
    opt=documented(RateLimited, speaks_openai=True),
)
async def models_of_point(
    org_id: FromPath[UUID], central_id: FromPath[UUID], visit: NamedDependency[Visit]
) -> ModelList:
    """The one model there is: the central point."""
    return ModelList((model_out(central_id, visit.point.name, org_id),))


def _turn(visit: Visit, guest: Guest, body: CentralCompletionBody, *, is_followed: bool) -> TurnRequest:
    return TurnRequest(
        org_id=visit.org_id,
        instance_id=visit.point.instance_id,
        central_id=visit.point.central_id,
        message=body.message,
        conversation_id=guest.conversation_id,
        resource_id=body.resource_id,
        is_followed=is_followed,
        on_disconnect=body.on_disconnect,
        is_queued=body.concurrency == "queue",
    )


def _headers(conversation_id: UUID, token: str | None) -> dict[str, str]:
    return {CONVERSATION_HEADER: str(conversation_id), **({TOKEN_HEADER: token} if token else {})}


router = Router(
    "/",
    route_handlers=[
        stream_of_point,
        chat_of_point,
        Router(
            "/",
            route_handlers=[chat_completions_of_point, models_of_point],
            exception_handlers={Exception: answer_openai_error},
        ),
    ],
    tags=["chat with central points"],
)
