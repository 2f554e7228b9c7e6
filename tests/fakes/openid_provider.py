"""A small OpenID provider over real HTTP: discovery, keys, authorization code with PKCE. It knows one person."""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "cadence", "a secret: of/the tests"
REDIRECT_URL = "http://control.plane/api/auth/oidc/callback"


class FakeOpenIDProvider:
    """`person` is who logs in next; `forge` may change a token's claims before it is signed."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.forge: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        self.is_away = False
        self.refuses = False
        self.key_requests = 0
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}
        self._signing = self._published = _new_key("1")
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FakeOpenIDProvider":
        app = web.Application(middlewares=[self._presence])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.issuer = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def rotate(self, *, is_published: bool = True) -> None:
        """Sign with another key from now on; one that is not published is somebody else's."""
        self._signing = _new_key(secrets.token_hex(4))
        if is_published:
            self._published = self._signing

    @web.middleware
    async def _presence(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_away:
            raise web.HTTPServiceUnavailable
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        self.key_requests += 1
        return web.json_response({"keys": [self._published.as_dict(private=False)]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert (asked["client_id"], asked["redirect_uri"]) == (CLIENT_ID, REDIRECT_URL)
        assert "openid" in asked["scope"].split()
        answer = {"state": asked["state"]}
        if self.refuses:
            answer["error"] = "access_denied"
        else:
            answer["code"] = secrets.token_urlsafe(16)
            self._codes[answer["code"]] = asked
        raise web.HTTPFound(f"{asked['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)
        given = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().split(":")
        # Each part is form-encoded before they are joined (RFC 6749 §2.3.1).
        is_client = given == [CLIENT_ID, "a%20secret%3A%20of%2Fthe%20tests"]
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or not is_client
            or asked["code_challenge"] != challenge
            or form["redirect_uri"] != REDIRECT_URL
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
            **self.person,
        }
        header = {"alg": "RS256", "kid": self._signing.kid}
        token = jwt.encode(header, self.forge(claims), self._signing)
        return web.json_response({"access_token": "unused", "token_type": "Bearer", "id_token": token})


def _new_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})
