from litestar import Router
from litestar.di import NamedDependency

from control_plane.http.guards import may
from control_plane.http.handlers import get
from control_plane.http.paging import Page, whole
from control_plane.workers.schemas import PoolStatsView, WorkerView
from control_plane.workers.service import FleetService
from shared.security.permissions import Permission


@get("/workers", guards=[may(Permission.SYSTEM_TELEMETRY_READ)], summary="List the live runtime workers")
async def list_workers(fleet: NamedDependency[FleetService]) -> Page[WorkerView]:
    """With what each last did with every instance it met."""
    return whole(await fleet.workers())


@get("/pool/stats", guards=[may(Permission.SYSTEM_TELEMETRY_READ)], summary="Show what the workers hold in memory")
async def pool_stats(fleet: NamedDependency[FleetService]) -> PoolStatsView:
    return await fleet.pool_stats()


router = Router("/api/admin", route_handlers=[list_workers, pool_stats], tags=["fleet"])
