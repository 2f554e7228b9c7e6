"""Routes for the control plane, with the worker token."""

from uuid import UUID

from litestar import MediaType, Response, Router
from litestar.di import NamedDependency
from litestar.params import FromPath

from runtime_worker.http.auth import workers_only
from runtime_worker.http.handlers import get
from runtime_worker.wiring import Worker


@get("/internal/orchestrators/{instance_id:uuid}/graph", guards=[workers_only], include_in_schema=False)
async def graph(instance_id: FromPath[UUID], worker: NamedDependency[Worker]) -> Response[str]:
    """A Mermaid graph of what is really wired; builds the instance when it is not built."""
    lease = await worker.pool.lease(instance_id)
    try:
        text = lease.orchestrator.mermaid()
    finally:
        lease.release()
    return Response(text, media_type=MediaType.TEXT)


router = Router("/", route_handlers=[graph])
