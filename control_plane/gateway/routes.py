"""Where the gateway listens inside the control plane, so that one port serves both planes."""

from litestar import route
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from control_plane.http.guards import public
from control_plane.wiring import Resources

PATHS = (
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/{operation:str}",
    "/api/orgs/{org_id:uuid}/completion/{operation:str}",
    "/api/orgs/{org_id:uuid}/runs/{rest:path}",
    "/api/orgs/{org_id:uuid}/conversations",
    "/api/orgs/{org_id:uuid}/conversations/{rest:path}",
)


@route(list(PATHS), http_method=["GET", "POST", "PATCH", "DELETE"], guards=[public], include_in_schema=False)
async def gateway(resources: NamedDependency[Resources]) -> ASGIApp:
    """Anybody may call: it is the worker that authenticates."""
    return resources.gateway
