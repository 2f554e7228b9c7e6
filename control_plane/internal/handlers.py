from datetime import date
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import MediaType, Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from control_plane.api_keys.records import load_api_key
from control_plane.audit.chain import append
from control_plane.auth.grants import load_grant
from control_plane.database.violations import violations
from control_plane.http.handlers import get, post
from control_plane.internal.feed import WorkerFeed
from control_plane.internal.guards import worker_only
from control_plane.purges.service import PurgeService
from control_plane.tiers.limits import load_limits
from control_plane.usage.counted import find_uncounted, load_counted
from control_plane.wiring import Resources
from shared.audit import ToldChange
from shared.errors import NotFound
from shared.limits import Counted, OrganizationLimits
from shared.purges import PurgePage, PurgeReport
from shared.retention import RetentionPage
from shared.security.api_keys import APIKeyRecord
from shared.security.grants import Grant
from shared.security.organizations import OrganizationState
from shared.snapshots import ChangePage
from shared.usage import Question, Uncounted

DEFAULT_CHANGES = 500
MAX_CHANGES = 2000

Since = Annotated[int, QueryParameter(name="since", ge=0, le=2**62)]
ChangeLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_CHANGES)]
AtLeast = Annotated[int, QueryParameter(name="at_least", ge=0, le=2**62, description="A revision.")]
After = Annotated[UUID | None, QueryParameter(name="after")]
On = Annotated[date, QueryParameter(name="on")]
OrgId = Annotated[UUID | None, QueryParameter(name="org_id")]


@get("/snapshots/{instance_id:uuid}")
async def snapshot(
    instance_id: FromPath[UUID], feed: NamedDependency[WorkerFeed], at_least: AtLeast = 0
) -> Response[bytes]:
    """Everything needed to build one instance, secrets sealed: an OrchestratorSnapshot."""
    return Response(await feed.snapshot(instance_id, at_least), media_type=MediaType.JSON)


@get("/changes")
async def changes(
    feed: NamedDependency[WorkerFeed], since: Since = 0, limit: ChangeLimit = DEFAULT_CHANGES
) -> ChangePage:
    """The instances changed after `since`, in the order of their revisions, which is the order of the commits."""
    return await feed.changes(since, limit)


@get("/retention")
async def retention(
    feed: NamedDependency[WorkerFeed], after: After = None, limit: ChangeLimit = DEFAULT_CHANGES
) -> RetentionPage:
    """How long each living organization keeps what was said."""
    return await feed.retention(after, limit)


@get("/grants/{user_id:uuid}")
async def grant(user_id: FromPath[UUID], resources: NamedDependency[Resources], org_id: OrgId = None) -> Grant:
    """What a user may do, from the truth; workers cache it by generation."""
    return await load_grant(resources.autocommit, user_id, org_id)


@get("/organizations/{org_id:uuid}")
async def organization(org_id: FromPath[UUID], feed: NamedDependency[WorkerFeed]) -> OrganizationState:
    """Whether an organization is there and active; workers cache it by its generation."""
    return await feed.organization(org_id)


@get("/api-keys/{digest:str}")
async def api_key(digest: FromPath[str], resources: NamedDependency[Resources]) -> APIKeyRecord:
    """What an API key may do at most, found by its hash; workers cache it by its owner's generation."""
    record = await load_api_key(resources.autocommit, digest)
    if record is None:
        raise NotFound
    return record


@get("/limits/{org_id:uuid}")
async def limits(org_id: FromPath[UUID], resources: NamedDependency[Resources]) -> OrganizationLimits:
    """How fast and how much an organization may, from the truth; both planes cache it by generation."""
    return await load_limits(resources.autocommit, org_id)


@get("/limits/{org_id:uuid}/counted")
async def counted(org_id: FromPath[UUID], resources: NamedDependency[Resources], on: On) -> Counted:
    """What is counted of an organization in the month of a day, for a worker whose Redis does not know it."""
    return await load_counted(resources.autocommit, org_id, on)


@post("/usage/uncounted", status_code=200)
async def uncounted(data: JSONBody[Question], resources: NamedDependency[Resources]) -> Uncounted:
    """Which runs are not counted, for a worker that looks for usage that was lost on its way."""
    kept_days = resources.settings.usage_retention_days
    return await find_uncounted(resources.autocommit, data.run_ids, resources.clock, kept_days=kept_days)


@get("/purges")
async def purges(resources: NamedDependency[Resources]) -> PurgePage:
    """The organizations that workers have to let go of, and whose conversations they have to remove."""
    live = [worker.worker_id for worker in await resources.registry.live()]
    async with resources.database() as session:
        return PurgePage(tuple(await PurgeService(session=session).pending(live)))


@post("/purges/{deleted_id:uuid}", status_code=204)
async def hear_of_purge(
    deleted_id: FromPath[UUID], data: JSONBody[PurgeReport], resources: NamedDependency[Resources]
) -> None:
    """What a worker has done of it."""
    async with resources.database() as session:
        await PurgeService(session=session).hear(deleted_id, data)
        await session.commit()


@post("/audit", status_code=204)
async def hear_of_change(data: JSONBody[ToldChange], resources: NamedDependency[Resources]) -> None:
    """What somebody changed in a worker. Raises NotFound for an organization that is gone."""
    entry = {**msgspec.structs.asdict(data), "changes": []}
    async with resources.database(entry.pop("org_id")) as session:
        with violations({"fk_audit_log_org_id_organizations": NotFound()}):
            await append(session, data.org_id, entry)
        await session.commit()


router = Router(
    "/internal",
    route_handlers=[
        snapshot,
        changes,
        retention,
        grant,
        organization,
        api_key,
        limits,
        counted,
        uncounted,
        purges,
        hear_of_purge,
        hear_of_change,
    ],
    guards=[worker_only],
    include_in_schema=False,
)
