from typing import Literal

import msgspec
from litestar import Response, Router
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from control_plane.health.service import Readiness
from control_plane.http.guards import public
from control_plane.http.handlers import get
from control_plane.wiring import Resources
from shared.metrics import MEDIA_TYPE

NO_STORE = {"Cache-Control": "no-store"}


class LivenessView(msgspec.Struct):
    status: Literal["ok"]


@get(["/", "/live"], guards=[public], summary="Whether this process answers at all")
async def live() -> LivenessView:
    return LivenessView("ok")


@get(
    "/ready",
    guards=[public],
    summary="Whether everything this process needs answers",
    responses={503: ResponseSpec(Readiness, description="Something needed is down")},
)
async def ready(resources: NamedDependency[Resources]) -> Response[Readiness]:
    readiness = await resources.health.readiness()
    return Response(readiness, status_code=200 if readiness.status == "ready" else 503, headers=NO_STORE)


@get("/metrics", guards=[public], include_in_schema=False)
async def metrics(state: State, resources: NamedDependency[Resources]) -> Response[bytes]:
    """Of this process and of the fleet as it sees it, in Prometheus's text format."""
    state.fleet_metrics.take(await resources.gateway.workers.all())
    return Response(state.metrics.text(), media_type=MEDIA_TYPE, headers=NO_STORE)


metrics_router = Router("/", route_handlers=[metrics])
router = Router("/health", route_handlers=[live, ready], tags=["health"])
api_router = Router("/api/health", route_handlers=[live, ready], tags=["health"], include_in_schema=False)
