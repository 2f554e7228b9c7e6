"""Where the gateway listens inside the control plane, so that one port serves both planes."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, route
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from control_plane.http.guards import public
from control_plane.http.problems import as_domain_error
from control_plane.wiring import Resources
from shared.openai_errors import error_body, error_headers, error_status

PATHS = (
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/completion/{operation:str}",
    "/api/orgs/{org_id:uuid}/central-points/{central_id:uuid}/completion/{operation:str}",
    "/api/orgs/{org_id:uuid}/completion/{operation:str}",
    "/api/orgs/{org_id:uuid}/runs/{rest:path}",
    "/api/orgs/{org_id:uuid}/conversations",
    "/api/orgs/{org_id:uuid}/conversations/{rest:path}",
)
OPENAI_PATHS = (
    "/api/orgs/{org_id:uuid}/orchestrators/{instance_id:uuid}/v1/{rest:path}",
    "/api/orgs/{org_id:uuid}/central-points/{central_id:uuid}/v1/{rest:path}",
)


@route(list(PATHS), http_method=["GET", "POST", "PATCH", "DELETE"], guards=[public], include_in_schema=False)
async def gateway(resources: NamedDependency[Resources]) -> ASGIApp:
    """Anybody may call: it is the worker that authenticates."""
    return resources.gateway


def answer_openai_error(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What the gateway itself has to refuse, as an OpenAI client understands it."""
    domain = as_domain_error(error)
    return Response(
        msgspec.json.encode(error_body(domain)),
        status_code=error_status(domain),
        media_type=MediaType.JSON,
        headers=error_headers(domain),
    )


@route(
    list(OPENAI_PATHS),
    http_method=["GET", "POST"],
    guards=[public],
    include_in_schema=False,
    exception_handlers={Exception: answer_openai_error},
)
async def openai_gateway(resources: NamedDependency[Resources]) -> ASGIApp:
    """The same for the routes that speak OpenAI's protocol."""
    return resources.gateway
