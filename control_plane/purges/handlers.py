from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath

from control_plane.http.guards import may
from control_plane.http.handlers import delete, get
from control_plane.http.openapi import documented
from control_plane.purges.schemas import PurgeView
from control_plane.purges.service import PurgeService
from shared.errors import Conflict
from shared.security.permissions import Permission


@delete(
    "/{deleted_id:uuid}/purge",
    guards=[may(Permission.SYSTEM_ADMIN)],
    opt=documented(Conflict),
    status_code=202,
    summary="Remove everything of a deleted organization for good",
)
async def purge(deleted_id: FromPath[UUID], purges: NamedDependency[PurgeService]) -> Response[PurgeView]:
    """Rows, conversations, packages, keys and messages. It goes on in the background until nothing is left."""
    return Response(PurgeView.of(await purges.request(deleted_id)), status_code=202)


@get(
    "/{deleted_id:uuid}/purge",
    guards=[may(Permission.SYSTEM_ADMIN)],
    summary="How far the purge of an organization is",
)
async def show(deleted_id: FromPath[UUID], purges: NamedDependency[PurgeService]) -> PurgeView:
    """404 once it is over."""
    return PurgeView.of(await purges.get(deleted_id))


# The organization is deleted, so nobody has a place in it: the id in the path is not that of `org_id`.
router = Router("/api/admin/orgs", route_handlers=[purge, show], tags=["organizations"])
