"""Runs: how one is doing, what was told of it, and stopping it, from any worker."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream

from runtime_worker.http.auth import may
from runtime_worker.http.callers import AnyRequest, sees_everything
from runtime_worker.http.handlers import get, post
from runtime_worker.http.openapi import documented
from runtime_worker.http.schemas import RunOut, run_out
from runtime_worker.http.telling import tell
from runtime_worker.stream.response import HEADERS
from runtime_worker.wiring import Worker
from shared.errors import Conflict, FieldError, InvalidRequest, RunEventsGone
from shared.security.grants import Grant
from shared.security.permissions import Permission

MAX_SEQ_DIGITS = 16


@get("/api/orgs/{org_id:uuid}/runs/{run_id:uuid}", guards=[may(Permission.CHAT_USE)])
async def get_run(
    org_id: FromPath[UUID],
    run_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> RunOut:
    """A run of one's own; an org_admin sees every run of the organization."""
    run = await worker.runs.get(org_id, run_id, user_id=None if sees_everything(grant) else grant.user_id)
    return run_out(run)


@post(
    "/api/orgs/{org_id:uuid}/runs/{run_id:uuid}/cancel",
    guards=[may(Permission.CHAT_USE)],
    status_code=202,
    opt=documented(Conflict),
)
async def cancel_run(
    request: AnyRequest,
    org_id: FromPath[UUID],
    run_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> RunOut:
    """Have a run end as cancelled, wherever it runs. 409 when it has ended in another way already."""
    run = await worker.runs.cancel(org_id, run_id, user_id=None if sees_everything(grant) else grant.user_id)
    if run.user_id != grant.user_id:
        await tell(request, worker, grant)
    return run_out(run)


@get(
    "/api/orgs/{org_id:uuid}/runs/{run_id:uuid}/stream",
    guards=[may(Permission.CHAT_USE)],
    opt=documented(RunEventsGone, InvalidRequest, streams=True),
    responses={204: ResponseSpec(None, description="The event in `Last-Event-ID` is the run's last one.")},
)
async def stream_of_run(
    org_id: FromPath[UUID],
    run_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Response[Any]:
    """A run's events from the first one, or from behind the one in `Last-Event-ID`, to the last; those that are yet to
    come, as they come. Any worker shows any run, for some minutes after it ended. 204 behind the last one, which is
    what keeps an `EventSource` from asking again and again."""
    user_id = None if sees_everything(grant) else grant.user_id
    after_seq = _seq_of(run_id, last_event_id) if last_event_id else 0
    events = await worker.replays.open(org_id, run_id, user_id=user_id, after_seq=after_seq)
    if after_seq and await worker.replays.is_last(run_id, after_seq):
        return Response(None, status_code=204, media_type=None)
    return replayed(events)


def replayed(events: AsyncIterator[bytes]) -> Response[Any]:
    """A stream of events that come from the journal."""
    return Stream(events, media_type="text/event-stream", headers=HEADERS)


def _seq_of(run_id: UUID, last_event_id: str) -> int:
    """Raises InvalidRequest unless it is an id that an event of this run can have."""
    run, _, seq = last_event_id.rpartition(":")
    if run != str(run_id) or not (seq.isascii() and seq.isdigit() and len(seq) < MAX_SEQ_DIGITS):
        message = "the id of an event of this run is <run_id>:<number>"
        raise InvalidRequest(message, errors=(FieldError("Last-Event-ID", "invalid", message),))
    return int(seq)


router = Router("/", route_handlers=[get_run, cancel_run, stream_of_run], tags=["runs"])
