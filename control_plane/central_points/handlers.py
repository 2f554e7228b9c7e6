from uuid import UUID

from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from control_plane.central_points.schemas import CentralPointBody, CentralPointPatch, CentralPointView
from control_plane.central_points.service import CentralPointService
from control_plane.http.etags import IfMatch, tagged
from control_plane.http.guards import may
from control_plane.http.handlers import delete, get, patch, post
from control_plane.http.openapi import documented
from control_plane.http.paging import DEFAULT_LIMIT, Cursor, Limit, Page, decode_id_cursor, page_of
from shared.errors import AlreadyExists
from shared.security.permissions import Permission


@post(
    "/",
    guards=[may(Permission.ORG_CENTRAL_POINTS_WRITE)],
    opt=documented(AlreadyExists),
    summary="Make a central point",
)
async def create(
    org_id: FromPath[UUID], data: JSONBody[CentralPointBody], central_points: NamedDependency[CentralPointService]
) -> Response[CentralPointView]:
    point = await central_points.create(org_id, data)
    return tagged(CentralPointView.of(point), point.revision, status_code=201)


@get("/", guards=[may(Permission.ORG_CENTRAL_POINTS_READ)], summary="List central points")
async def list_all(
    org_id: FromPath[UUID],
    central_points: NamedDependency[CentralPointService],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[CentralPointView]:
    rows = await central_points.page(org_id, after=decode_id_cursor(cursor), limit=limit)
    return page_of(rows, limit, key=lambda point: point.id, show=CentralPointView.of)


@get("/{central_id:uuid}", guards=[may(Permission.ORG_CENTRAL_POINTS_READ)], summary="Show a central point")
async def get_one(
    org_id: FromPath[UUID], central_id: FromPath[UUID], central_points: NamedDependency[CentralPointService]
) -> Response[CentralPointView]:
    point = await central_points.get(org_id, central_id)
    return tagged(CentralPointView.of(point), point.revision)


@patch(
    "/{central_id:uuid}",
    guards=[may(Permission.ORG_CENTRAL_POINTS_WRITE)],
    opt=documented(AlreadyExists),
    summary="Change a central point, or swap the orchestrator behind it",
)
async def change(
    org_id: FromPath[UUID],
    central_id: FromPath[UUID],
    data: JSONBody[CentralPointPatch],
    central_points: NamedDependency[CentralPointService],
    if_match: IfMatch = None,
) -> Response[CentralPointView]:
    """No request fails for a swap, and conversations go on with the new orchestrator."""
    point = await central_points.change(org_id, central_id, data, if_match=if_match)
    return tagged(CentralPointView.of(point), point.revision)


@delete("/{central_id:uuid}", guards=[may(Permission.ORG_CENTRAL_POINTS_WRITE)], summary="Delete a central point")
async def remove(
    org_id: FromPath[UUID],
    central_id: FromPath[UUID],
    central_points: NamedDependency[CentralPointService],
    if_match: IfMatch = None,
) -> None:
    await central_points.delete(org_id, central_id, if_match=if_match)


router = Router(
    "/api/orgs/{org_id:uuid}/central-points",
    route_handlers=[create, list_all, get_one, change, remove],
    tags=["central points"],
)
