"""Talking to an instance: one message in, its answer as events or as one JSON document."""

from typing import Any
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath

from runtime_worker.engines.choices import typed_config
from runtime_worker.http.auth import may
from runtime_worker.http.bodies import read_body
from runtime_worker.http.callers import AnyRequest
from runtime_worker.http.handlers import get, post
from runtime_worker.http.openapi import documented
from runtime_worker.http.schemas import AddressedCompletionBody, CompletionAnswer, CompletionBody, StartersOut
from runtime_worker.http.turns import AFTER_A_RUN, BEFORE_A_RUN, answered, begun, streamed
from runtime_worker.turn.request import TurnRequest
from runtime_worker.wiring import Worker
from shared.errors import OrchestratorDeactivated, OrchestratorNotLoaded
from shared.security.grants import Grant
from shared.security.permissions import Permission


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/stream",
    guards=[may(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*BEFORE_A_RUN, body=CompletionBody, streams=True, is_repeatable=True),
)
async def stream_of_instance(
    request: AnyRequest,
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> Response[Any]:
    """Run one turn and stream its events (`text/event-stream`)."""
    return await _stream(request, worker, grant, org_id, instance_id, await read_body(request, CompletionBody))


@post(
    "/api/orgs/{org_id:uuid}/completion/stream",
    guards=[may(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*BEFORE_A_RUN, body=AddressedCompletionBody, streams=True, is_repeatable=True),
)
async def stream_of_body(
    request: AnyRequest, org_id: FromPath[UUID], grant: NamedDependency[Grant], worker: NamedDependency[Worker]
) -> Response[Any]:
    """The same with the instance in the body."""
    body = await read_body(request, AddressedCompletionBody)
    return await _stream(request, worker, grant, org_id, body.instance_id, body)


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/chat",
    guards=[may(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*BEFORE_A_RUN, *AFTER_A_RUN, body=CompletionBody, is_repeatable=True),
)
async def chat_of_instance(
    request: AnyRequest,
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> CompletionAnswer:
    """Run one turn and answer when it has ended."""
    return await _chat(request, worker, grant, org_id, instance_id, await read_body(request, CompletionBody))


@post(
    "/api/orgs/{org_id:uuid}/completion/chat",
    guards=[may(Permission.CHAT_USE, begins_run=True)],
    status_code=200,
    opt=documented(*BEFORE_A_RUN, *AFTER_A_RUN, body=AddressedCompletionBody, is_repeatable=True),
)
async def chat_of_body(
    request: AnyRequest, org_id: FromPath[UUID], grant: NamedDependency[Grant], worker: NamedDependency[Worker]
) -> CompletionAnswer:
    """The same with the instance in the body."""
    body = await read_body(request, AddressedCompletionBody)
    return await _chat(request, worker, grant, org_id, body.instance_id, body)


@get(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/starters",
    guards=[may(Permission.CHAT_USE)],
    opt=documented(OrchestratorNotLoaded, OrchestratorDeactivated),
)
async def starters(org_id: FromPath[UUID], instance_id: FromPath[UUID], worker: NamedDependency[Worker]) -> StartersOut:
    """What to offer a user who has not said anything yet."""
    snapshot = await worker.pool.snapshot(instance_id, org_id)
    return StartersOut(typed_config(snapshot).conversation_starters)


async def _stream(
    request: AnyRequest, worker: Worker, grant: Grant, org_id: UUID, instance_id: UUID, body: CompletionBody
) -> Response[Any]:
    run = await begun(request, worker, grant, _turn(org_id, instance_id, body, is_followed=True))
    return await streamed(worker, grant, org_id, run)


async def _chat(
    request: AnyRequest, worker: Worker, grant: Grant, org_id: UUID, instance_id: UUID, body: CompletionBody
) -> CompletionAnswer:
    run = await begun(request, worker, grant, _turn(org_id, instance_id, body, is_followed=False))
    answer = await answered(request, worker, grant, org_id, run)
    return CompletionAnswer.of(answer.record, answer.text, answer.usage)


def _turn(org_id: UUID, instance_id: UUID, body: CompletionBody, *, is_followed: bool) -> TurnRequest:
    return TurnRequest(
        org_id=org_id,
        instance_id=instance_id,
        message=body.message,
        conversation_id=body.conversation_id,
        resource_id=body.resource_id,
        is_followed=is_followed,
        on_disconnect=body.on_disconnect,
        is_queued=body.concurrency == "queue",
    )


router = Router(
    "/", route_handlers=[stream_of_instance, stream_of_body, chat_of_instance, chat_of_body, starters], tags=["chat"]
)
