import hmac
from typing import Annotated

from litestar import Response, Router
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_302_FOUND

from control_plane.auth.schemas import TokenView
from control_plane.http.addresses import client_address
from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import public
from control_plane.http.handlers import get
from control_plane.http.openapi import documented
from control_plane.single_sign_on.attempts import ATTEMPT_SECONDS
from control_plane.single_sign_on.claims import Identity
from control_plane.single_sign_on.service import SingleSignOn
from control_plane.wiring import Resources
from shared.errors import FieldError, IdentityProviderUnavailable, InvalidRequest, NotFound, SingleSignOnRefused

PATH = "/api/auth/oidc"
COOKIE = "cadence_sso"
"""Ties the login to the browser that began it: a link to the callback with somebody else's code logs nobody in."""

NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
ReturnTo = Annotated[
    str | None,
    QueryParameter(
        name="return_to",
        max_length=1000,
        description="A path of this server that gets the token in its fragment; without one the answer is the token.",
    ),
]
Text = Annotated[str | None, QueryParameter(max_length=4096)]


@get(
    "/login",
    guards=[public],
    status_code=HTTP_302_FOUND,
    opt=documented(NotFound, IdentityProviderUnavailable),
    summary="Log in at the OpenID provider",
)
async def begin(resources: NamedDependency[Resources], return_to: ReturnTo = None) -> Response[None]:
    """404 where none is configured."""
    if resources.openid_provider is None or resources.settings.single_sign_on is None:
        raise NotFound
    if return_to is not None and not _is_own_path(return_to):
        raise InvalidRequest(errors=(FieldError("return_to", "invalid", "a path of this server that begins with /"),))
    attempt = await resources.login_attempts.begin(return_to)
    url = await resources.openid_provider.authorization_url(
        state=attempt.state, nonce=attempt.nonce, challenge=attempt.challenge
    )
    is_secure = resources.settings.single_sign_on.redirect_url.startswith("https://")
    cookie = Cookie(
        key=COOKIE,
        value=attempt.state,
        path=PATH,
        httponly=True,
        secure=is_secure,
        samesite="lax",
        max_age=ATTEMPT_SECONDS,
    )
    return Response(None, status_code=HTTP_302_FOUND, headers={"Location": url, **NO_STORE}, cookies=[cookie])


@get(
    "/callback",
    guards=[public],
    opt=documented(NotFound, SingleSignOnRefused, IdentityProviderUnavailable),
    summary="Come back from the OpenID provider",
)
async def finish(
    request: AnyRequest,
    resources: NamedDependency[Resources],
    single_sign_on: NamedDependency[SingleSignOn],
    code: Text = None,
    login_state: Annotated[str | None, QueryParameter(name="state", max_length=200)] = None,
    error: Text = None,
) -> Response[TokenView | None]:
    if resources.openid_provider is None or resources.settings.single_sign_on is None:
        raise NotFound
    if login_state is None or not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), login_state.encode()):
        raise SingleSignOnRefused("this login was begun elsewhere; begin again")
    attempt = await resources.login_attempts.finish(login_state)
    if error is not None or not code:
        raise SingleSignOnRefused("the provider did not let the user in")
    claims = await resources.openid_provider.claims(code, verifier=attempt.verifier, nonce=attempt.nonce)
    session = await single_sign_on.log_in(
        Identity.of(claims, roles_claim=resources.settings.single_sign_on.roles_claim),
        address=client_address(request, resources.settings.trusted_proxies),
        user_agent=request.headers.get("user-agent", ""),
    )
    token = resources.tokens.issue(
        session.user_id, session.session_id, issued_at=session.created_at, expires_at=session.expires_at
    )
    over = [Cookie(key=COOKIE, value="", path=PATH, max_age=0, httponly=True)]
    if attempt.return_to is None:
        return Response(TokenView(token, session.expires_at), headers=NO_STORE, cookies=over)
    # In the fragment, which browsers send to nobody.
    location = {"Location": f"{attempt.return_to}#token={token}"}
    return Response(None, status_code=HTTP_302_FOUND, headers={**location, **NO_STORE}, cookies=over)


def _is_own_path(path: str) -> bool:
    """Browsers read `//host` and `/\\host` as another server."""
    return path.startswith("/") and path[1:2] not in ("/", "\\") and "#" not in path and path.isprintable()


router = Router(PATH, route_handlers=[begin, finish], tags=["auth"])
