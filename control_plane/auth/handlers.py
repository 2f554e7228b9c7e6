from litestar import Response, Router
from litestar.di import NamedDependency
from litestar.params import JSONBody

from control_plane.auth.schemas import LoginBody, TokenView
from control_plane.auth.service import AuthService
from control_plane.http.addresses import client_address
from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import Principal, public, refreshing, session_only
from control_plane.http.handlers import delete, post
from control_plane.http.openapi import documented
from control_plane.wiring import Resources
from shared.errors import LocalPasswordsOff, RateLimited, WrongCredentials

NO_STORE = {"Cache-Control": "no-store"}


@post(
    "/login",
    guards=[public],
    status_code=200,
    opt=documented(WrongCredentials, RateLimited, LocalPasswordsOff, keeps_secret=True),
    summary="Log in",
)
async def log_in(
    data: JSONBody[LoginBody],
    request: AnyRequest,
    auth: NamedDependency[AuthService],
    resources: NamedDependency[Resources],
) -> Response[TokenView]:
    if not resources.settings.local_passwords:
        raise LocalPasswordsOff
    token, expires_at = await auth.log_in(data.username, data.password, **_origin(request, resources))
    return Response(TokenView(token, expires_at), headers=NO_STORE)


@post("/refresh", guards=[refreshing], status_code=200, opt=documented(keeps_secret=True), summary="Rotate the session")
async def refresh(
    request: AnyRequest,
    principal: NamedDependency[Principal],
    auth: NamedDependency[AuthService],
    resources: NamedDependency[Resources],
) -> Response[TokenView]:
    """The session of the request ends; the answer holds the token of a new one. Exchanging the old one again later ends
    the new one as well: somebody has a copy.
    """
    token, expires_at = await auth.refresh(_session_id(principal), **_origin(request, resources))
    return Response(TokenView(token, expires_at), headers=NO_STORE)


@delete("/logout", guards=[session_only], summary="End this session")
async def log_out(principal: NamedDependency[Principal], auth: NamedDependency[AuthService]) -> None:
    await auth.log_out(_session_id(principal))


@delete("/sessions", guards=[session_only], summary="End all of my sessions")
async def log_out_everywhere(principal: NamedDependency[Principal], auth: NamedDependency[AuthService]) -> None:
    await auth.log_out_everywhere(_session_id(principal))


def _session_id(principal: Principal) -> str:
    assert principal.session_id is not None  # noqa: S101 - `session_only` has seen to it
    return principal.session_id


def _origin(request: AnyRequest, resources: Resources) -> dict[str, str]:
    return {
        "address": client_address(request, resources.settings.trusted_proxies),
        "user_agent": request.headers.get("user-agent", ""),
    }


router = Router("/api/auth", route_handlers=[log_in, refresh, log_out, log_out_everywhere], tags=["auth"])
