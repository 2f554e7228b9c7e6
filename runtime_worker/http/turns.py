"""What every way of talking to an instance has in common: beginning a turn, following it, waiting for its answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response

from runtime_worker.conversations.base import RunRecord, TokenUsage
from runtime_worker.http.callers import AnyRequest, admission_of, api_key_of
from runtime_worker.http.runs import replayed
from runtime_worker.stream.response import EventStreamResponse
from runtime_worker.turn.request import TurnRequest
from runtime_worker.turn.run import Run
from runtime_worker.wiring import Worker
from shared.errors import (
    BudgetSpent,
    Conflict,
    ConversationBusy,
    Draining,
    IdempotencyKeyReused,
    MessagesSpent,
    ModelUnavailable,
    NotFound,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
    OrchestratorNotLoaded,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    TokensSpent,
    TooManyRuns,
    WorkerBusy,
    WorkerLost,
    error_for,
)
from shared.ids import new_id
from shared.security.grants import Grant

BEFORE_A_RUN = (
    Conflict,
    ConversationBusy,
    IdempotencyKeyReused,
    Draining,
    WorkerBusy,
    TooManyRuns,
    MessagesSpent,
    TokensSpent,
    BudgetSpent,
    OrchestratorNotLoaded,
    OrchestratorBuildFailed,
    OrchestratorDeactivated,
)
AFTER_A_RUN = (RunCancelled, RunFailed, RunTimedOut, ModelUnavailable, WorkerLost)


class Answer(msgspec.Struct, frozen=True):
    """A run that ended with its answer."""

    record: RunRecord
    text: str
    usage: TokenUsage


async def begun(request: AnyRequest, worker: Worker, grant: Grant, turn: TurnRequest) -> Run | UUID:
    """The run, or the id of the one that an earlier request with the same `Idempotency-Key` began."""
    turn = msgspec.structs.replace(turn, api_key_id=api_key_of(request), admission=admission_of(request))
    key = request.headers.get("idempotency-key")
    if key is None:
        return await _started(worker, grant, turn)
    run_id = (turn.admission.run_id if turn.admission else None) or new_id()
    claim = worker.repeats.claim_of(grant, request.url.path, key, await request.body())
    known = await worker.repeats.take(claim, run_id)
    if known is not None:
        return known
    try:
        run = await _started(worker, grant, msgspec.structs.replace(turn, run_id=run_id))
    except BaseException:
        # What failed began nothing: the same request may be sent again.
        await asyncio.shield(worker.repeats.give_back(claim, run_id))
        raise
    await worker.repeats.begun(claim)
    return run


async def _started(worker: Worker, grant: Grant, turn: TurnRequest) -> Run:
    while True:
        try:
            return await worker.turns.start(grant, turn)
        except (NotFound, OrchestratorDeactivated, OrchestratorNotLoaded):
            if turn.central_id is None:
                raise
            if worker.pool.has_heard_of(turn.instance_id, worker.reconciler.observed_revision + 1):
                # A build has fetched the instance as it is by now, and of the point only older news have come.
                await worker.reconciler.look()
            point = worker.central_points.find(turn.org_id, turn.central_id)
            if point is None or point.instance_id == turn.instance_id:
                raise
            # The point was swapped, and what it led to taken away, while the request was on its way there.
            turn = msgspec.structs.replace(turn, instance_id=point.instance_id)


async def streamed(
    worker: Worker,
    grant: Grant,
    org_id: UUID,
    run: Run | UUID,
    *,
    headers_for: Callable[[UUID, UUID], dict[str, str]] | None = None,
    retold: Callable[[AsyncIterator[bytes], RunRecord], AsyncIterator[bytes]] | None = None,
) -> Response[Any]:
    """The run as it goes on, or from the journal one that an earlier request began or another worker goes on with.

    `headers_for` its id and its conversation's come on top of those of every stream. `retold` is how the events of the
    journal are said where the caller speaks another protocol.
    """
    if isinstance(run, Run) and not run.is_lost:
        return _followed(worker, run, headers_for(run.run_id, run.conversation_id) if headers_for else {})
    if isinstance(run, UUID):
        await worker.repeats.until_begun(org_id, run)
    run_id = run if isinstance(run, UUID) else run.run_id
    with worker.repeats.following():
        record = await worker.runs.get(org_id, run_id, user_id=grant.user_id) if headers_for or retold else None
        events = await worker.replays.open(org_id, run_id, user_id=grant.user_id, after_seq=0)
    response = replayed(retold(events, record) if retold and record else events)
    if headers_for and record:
        response.headers.update(headers_for(run_id, record.conversation_id))
    return response


def _followed(worker: Worker, run: Run, headers: dict[str, str]) -> Response[Any]:
    def client_left() -> None:
        if run.on_disconnect == "cancel":
            run.cancel()

    response = EventStreamResponse(
        run.stream, heartbeat_seconds=worker.settings.serving.heartbeat_seconds, on_disconnect=client_left
    )
    response.headers.update(headers)
    return response


async def answered(request: AnyRequest, worker: Worker, grant: Grant, org_id: UUID, run: Run | UUID) -> Answer:
    """Wait for the answer of a run, this request's or an earlier one's. Raises what ended the run instead of one."""
    if isinstance(run, UUID):
        await worker.repeats.until_begun(org_id, run)
        with worker.repeats.following():
            return _answer(*await worker.replays.end_of(org_id, run, user_id=grant.user_id))
    watcher = asyncio.create_task(_cancel_when_left(request, run)) if run.on_disconnect == "cancel" else None
    try:
        await run.wait()
    finally:
        if watcher is not None:
            watcher.cancel()
    if run.is_lost:
        # Another worker goes on with it.
        return _answer(*await worker.replays.end_of(org_id, run.run_id, user_id=grant.user_id))
    if run.is_handed_over:
        return _answer(*await worker.handover.end_of(run))
    if run.error is not None:
        raise run.error
    return _answer(run.record(), run.stream.text)


def _answer(record: RunRecord, text: str) -> Answer:
    if record.error is not None:
        raise error_for(record.error.code, record.error.message)
    if record.status == "cancelled" or record.usage is None:
        raise RunCancelled
    return Answer(record, text, record.usage)


async def _cancel_when_left(request: AnyRequest, run: Run) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    run.cancel()
