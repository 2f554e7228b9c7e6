from litestar import Response, Router, delete, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from control_plane.auth.schemas import LoginBody, TokenView
from control_plane.auth.service import AuthService
from control_plane.http.addresses import client_address
from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import Principal, public, signed_in
from control_plane.http.openapi import documented
from control_plane.wiring import Resources
from shared.errors import RateLimited, WrongCredentials

NO_STORE = {"Cache-Control": "no-store"}


@post(
    "/login",
    guards=[public],
    status_code=200,
    opt=documented(WrongCredentials, RateLimited, keeps_secret=True),
    summary="Log in",
)
async def log_in(
    data: JSONBody[LoginBody],
    request: AnyRequest,
    auth: NamedDependency[AuthService],
    resources: NamedDependency[Resources],
) -> Response[TokenView]:
    token, expires_at = await auth.log_in(data.username, data.password, **_origin(request, resources))
    return Response(TokenView(token, expires_at), headers=NO_STORE)


@post("/refresh", guards=[signed_in], status_code=200, opt=documented(keeps_secret=True), summary="Rotate the session")
async def refresh(
    request: AnyRequest,
    principal: NamedDependency[Principal],
    auth: NamedDependency[AuthService],
    resources: NamedDependency[Resources],
) -> Response[TokenView]:
    """The session of the request ends; the answer holds the token of a new one."""
    token, expires_at = await auth.refresh(principal.session_id, **_origin(request, resources))
    return Response(TokenView(token, expires_at), headers=NO_STORE)


@delete("/logout", guards=[signed_in], summary="End this session")
async def log_out(principal: NamedDependency[Principal], auth: NamedDependency[AuthService]) -> None:
    await auth.log_out(principal.session_id)


@delete("/sessions", guards=[signed_in], summary="End all of my sessions")
async def log_out_everywhere(principal: NamedDependency[Principal], auth: NamedDependency[AuthService]) -> None:
    await auth.log_out_everywhere(principal.session_id)


def _origin(request: AnyRequest, resources: Resources) -> dict[str, str]:
    return {
        "address": client_address(request, resources.settings.trusted_proxies),
        "user_agent": request.headers.get("user-agent", ""),
    }


router = Router("/api/auth", route_handlers=[log_in, refresh, log_out, log_out_everywhere], tags=["auth"])
