"""Talking to an instance: one message in, its answer as events or as one JSON document."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from runtime_worker.conversations.base import RunRecord
from runtime_worker.engines.choices import typed_config
from runtime_worker.http.auth import AnyRequest, may
from runtime_worker.http.bodies import read_body
from runtime_worker.http.openapi import documented
from runtime_worker.http.runs import replayed
from runtime_worker.http.schemas import AddressedCompletionBody, CompletionAnswer, CompletionBody, StartersOut
from runtime_worker.stream.response import EventStreamResponse
from runtime_worker.turn.request import TurnRequest
from runtime_worker.turn.run import Run
from runtime_worker.wiring import Worker
from shared.errors import (
    Conflict,
    ConversationBusy,
    Draining,
    IdempotencyKeyReused,
    ModelUnavailable,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
    OrchestratorNotLoaded,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    WorkerBusy,
    WorkerLost,
    error_for,
)
from shared.ids import new_id
from shared.security.grants import Grant
from shared.security.permissions import Permission

_BEFORE_A_RUN = (
    Conflict,
    ConversationBusy,
    IdempotencyKeyReused,
    Draining,
    WorkerBusy,
    OrchestratorNotLoaded,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
)
_AFTER_A_RUN = (RunCancelled, RunFailed, RunTimedOut, ModelUnavailable, WorkerLost)


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/stream",
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, body=CompletionBody, streams=True, is_repeatable=True),
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
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, body=AddressedCompletionBody, streams=True, is_repeatable=True),
)
async def stream_of_body(
    request: AnyRequest, org_id: FromPath[UUID], grant: NamedDependency[Grant], worker: NamedDependency[Worker]
) -> Response[Any]:
    """The same with the instance in the body."""
    body = await read_body(request, AddressedCompletionBody)
    return await _stream(request, worker, grant, org_id, body.instance_id, body)


@post(
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/chat",
    guards=[may(Permission.CHAT_USE)],
    status_code=200,
    opt=documented(*_BEFORE_A_RUN, *_AFTER_A_RUN, body=CompletionBody, is_repeatable=True),
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
    opt=documented(*_BEFORE_A_RUN, *_AFTER_A_RUN, body=AddressedCompletionBody, is_repeatable=True),
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
    turn = _turn(org_id, instance_id, body, is_followed=True)
    run = await _started(request, worker, grant, turn)
    if isinstance(run, UUID):
        await worker.repeats.until_begun(org_id, run)
        return replayed(await worker.replays.open(org_id, run, user_id=grant.user_id, after_seq=0))

    def client_left() -> None:
        if run.on_disconnect == "cancel":
            run.cancel()

    return EventStreamResponse(
        run.stream, heartbeat_seconds=worker.settings.serving.heartbeat_seconds, on_disconnect=client_left
    )


async def _chat(
    request: AnyRequest, worker: Worker, grant: Grant, org_id: UUID, instance_id: UUID, body: CompletionBody
) -> CompletionAnswer:
    run = await _started(request, worker, grant, _turn(org_id, instance_id, body, is_followed=False))
    if isinstance(run, UUID):
        await worker.repeats.until_begun(org_id, run)
        record, text = await worker.replays.end_of(org_id, run, user_id=grant.user_id)
        return _answer(record, text)
    watcher = asyncio.create_task(_cancel_when_left(request, run)) if run.on_disconnect == "cancel" else None
    try:
        await run.wait()
    finally:
        if watcher is not None:
            watcher.cancel()
    if run.is_lost:
        raise WorkerLost
    if run.is_handed_over:
        return _answer(*await worker.handover.end_of(run))
    if run.error is not None:
        raise run.error
    return _answer(run.record(), run.stream.text)


async def _started(request: AnyRequest, worker: Worker, grant: Grant, turn: TurnRequest) -> Run | UUID:
    """The run, or the id of the one that an earlier request with the same `Idempotency-Key` began."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return await worker.turns.start(grant, turn)
    run_id = new_id()
    claim = worker.repeats.claim_of(grant, request.url.path, key, await request.body())
    known = await worker.repeats.take(claim, run_id)
    if known is not None:
        return known
    try:
        return await worker.turns.start(grant, msgspec.structs.replace(turn, run_id=run_id))
    except BaseException:
        # What failed began nothing: the same request may be sent again.
        await asyncio.shield(worker.repeats.give_back(claim, run_id))
        raise


def _answer(record: RunRecord, text: str) -> CompletionAnswer:
    """Raises what ended the run, if it was not its answer."""
    if record.error is not None:
        raise error_for(record.error.code, record.error.message)
    if record.status == "cancelled" or record.usage is None:
        raise RunCancelled
    return CompletionAnswer(
        run_id=record.run_id,
        conversation_id=record.conversation_id,
        message_id=record.message_id,
        response=text,
        agent_hops=record.agent_hops,
        current_agent=record.current_agent,
        usage=record.usage,
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
        on_disconnect=body.on_disconnect,
        is_queued=body.concurrency == "queue",
    )


router = Router("/", route_handlers=[stream_of_instance, stream_of_body, chat_of_instance, chat_of_body, starters])
