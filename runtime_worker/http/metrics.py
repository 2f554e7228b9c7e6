"""`/metrics`, for Prometheus."""

from litestar import Response, Router
from litestar.di import NamedDependency

from runtime_worker.http.auth import public
from runtime_worker.http.handlers import get
from runtime_worker.wiring import Worker
from shared.metrics import MEDIA_TYPE


@get("/metrics", guards=[public], include_in_schema=False)
async def metrics(worker: NamedDependency[Worker]) -> Response[bytes]:
    """Of this process, in Prometheus's text format."""
    return Response(worker.metrics.text(), media_type=MEDIA_TYPE)


router = Router("/", route_handlers=[metrics])
