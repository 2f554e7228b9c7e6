"""Talking to an instance: one message in, its answer as events or as one JSON document."""

import asyncio
from uuid import UUID

from litestar import Response, Router, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from runtime_worker.http.auth import AnyRequest, may
from runtime_worker.http.bodies import read_body
from runtime_worker.http.openapi import documented
from runtime_worker.http.schemas import AddressedCompletionBody, CompletionAnswer, CompletionBody
from runtime_worker.stream.response import EventStreamResponse
from runtime_worker.turn.run import Run
from runtime_worker.turn.service import TurnRequest
from runtime_worker.wiring import Worker
from shared.errors import (
    Conflict,
    ConversationBusy,
    Draining,
    ModelUnavailable,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
    OrchestratorNotLoaded,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    WorkerBusy,
)
from shared.security.grants import Grant
from shared.security.permissions import Permission

_BEFORE_A_RUN = (
    Conflict,
    ConversationBusy,
    Draining,
    WorkerBusy,
    OrchestratorNotLoaded,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
)
_AFTER_A_RUN = (RunCancelled, RunFailed, RunTimedOut, ModelUnavailable)


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/stream",
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, body=CompletionBody, streams=True),
)
async def stream_of_instance(
    request: AnyRequest,
    org_id: FromPath[UUID],
    instance_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> Response[None]:
    """Run one turn and stream its events (`text/event-stream`)."""
    return await _stream(worker, grant, org_id, instance_id, await read_body(request, CompletionBody))


@post(
    "/api/orgs/{org_id:uuid}/completion/stream",
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, body=AddressedCompletionBody, streams=True),
)
async def stream_of_body(
    request: AnyRequest, org_id: FromPath[UUID], grant: NamedDependency[Grant], worker: NamedDependency[Worker]
) -> Response[None]:
    """The same with the instance in the body."""
    body = await read_body(request, AddressedCompletionBody)
    return await _stream(worker, grant, org_id, body.instance_id, body)


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/chat",
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, *_AFTER_A_RUN, body=CompletionBody),
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
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, *_AFTER_A_RUN, body=AddressedCompletionBody),
)
async def chat_of_body(
    request: AnyRequest, org_id: FromPath[UUID], grant: NamedDependency[Grant], worker: NamedDependency[Worker]
) -> CompletionAnswer:
    """The same with the instance in the body."""
    body = await read_body(request, AddressedCompletionBody)
    return await _chat(request, worker, grant, org_id, body.instance_id, body)


async def _stream(
    worker: Worker, grant: Grant, org_id: UUID, instance_id: UUID, body: CompletionBody
) -> Response[None]:
    run = await worker.turns.start(grant, _turn(org_id, instance_id, body, is_followed=True))

    def client_left() -> None:
        if body.on_disconnect == "cancel":
            run.cancel()

    return EventStreamResponse(
        run.stream, heartbeat_seconds=worker.settings.serving.heartbeat_seconds, on_disconnect=client_left
    )


async def _chat(
    request: AnyRequest, worker: Worker, grant: Grant, org_id: UUID, instance_id: UUID, body: CompletionBody
) -> CompletionAnswer:
    run = await worker.turns.start(grant, _turn(org_id, instance_id, body, is_followed=False))
    watcher = asyncio.create_task(_cancel_when_left(request, run)) if body.on_disconnect == "cancel" else None
    try:
        await run.wait()
    finally:
        if watcher is not None:
            watcher.cancel()
    if run.error is not None:
        raise run.error
    if run.status == "cancelled" or run.usage is None:
        raise RunCancelled
    return CompletionAnswer(
        run_id=run.run_id,
        conversation_id=run.conversation_id,
        message_id=run.message_id,
        response=run.stream.text,
        agent_hops=run.agent_hops,
        current_agent=run.current_agent,
        usage=run.usage,
    )


async def _cancel_when_left(request: AnyRequest, run: Run) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.cancel()


def _turn(org_id: UUID, instance_id: UUID, body: CompletionBody, *, is_followed: bool) -> TurnRequest:
    return TurnRequest(
        org_id=org_id,
        instance_id=instance_id,
        message=body.message,
        conversation_id=body.conversation_id,
        resource_id=body.resource_id,
        is_followed=is_followed,
    )


router = Router("/", route_handlers=[stream_of_instance, stream_of_body, chat_of_instance, chat_of_body])
