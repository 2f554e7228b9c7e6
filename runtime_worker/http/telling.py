"""What callers change here is told to the control plane, which keeps the audit log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from runtime_worker.http.addresses import client_address
from runtime_worker.http.callers import AnyRequest, api_key_of, sees_everything
from runtime_worker.wiring import Worker
from shared.audit import ToldChange
from shared.errors import DomainError
from shared.logging import get_logger
from shared.problems import STATUS_BY_KIND
from shared.security.grants import Grant

TELL_SECONDS = 2.0
_READING = frozenset({"GET", "HEAD", "OPTIONS"})

log = get_logger(__name__)


@asynccontextmanager
async def told(request: AnyRequest, worker: Worker, grant: Grant) -> AsyncIterator[None]:
    """Around a change. One that an administrator is refused is told as well; one that cannot be told is logged."""
    try:
        yield
    except DomainError as error:
        await tell_refused(request, worker, grant, error)
        raise
    await tell(request, worker, grant)


async def tell_refused(request: AnyRequest, worker: Worker, grant: Grant, error: DomainError) -> None:
    """Tell of a change that was refused, if it is one and an administrator's: what a member is refused is everyday.
    Never raises."""
    if request.method not in _READING and sees_everything(grant):
        await tell(request, worker, grant, refused_with=STATUS_BY_KIND[error.kind])


async def tell(request: AnyRequest, worker: Worker, grant: Grant, *, refused_with: int | None = None) -> None:
    """Never raises."""
    change = ToldChange(
        org_id=request.path_params["org_id"],
        at=datetime.now(UTC),
        actor_id=grant.user_id,
        actor=grant.username,
        api_key_id=api_key_of(request),
        address=client_address(request, worker.settings.trusted_proxies),
        request_id=request.scope["state"].get("request_id", ""),
        method=request.method,
        route=str(request.scope.get("path_template", "")),
        resource=request.scope["path"][:500],
        refused_with=refused_with,
    )
    try:
        async with asyncio.timeout(TELL_SECONDS):
            await worker.control_plane.tell_of_change(change)
    except (DomainError, TimeoutError) as error:
        log.error("audit_entry_lost", path=change.resource, refused_with=refused_with, reason=type(error).__name__)
