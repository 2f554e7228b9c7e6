"""Runs: how one is doing, and stopping it, from any worker."""

from uuid import UUID

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from runtime_worker.http.auth import may, sees_everything
from runtime_worker.http.openapi import documented
from runtime_worker.http.schemas import RunOut, run_out
from runtime_worker.wiring import Worker
from shared.errors import Conflict
from shared.security.grants import Grant
from shared.security.permissions import Permission


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
    org_id: FromPath[UUID],
    run_id: FromPath[UUID],
    grant: NamedDependency[Grant],
    worker: NamedDependency[Worker],
) -> RunOut:
    """Have a run end as cancelled, wherever it runs. 409 when it has ended in another way already."""
    run = await worker.runs.cancel(org_id, run_id, user_id=None if sees_everything(grant) else grant.user_id)
    return run_out(run)


router = Router("/", route_handlers=[get_run, cancel_run])
