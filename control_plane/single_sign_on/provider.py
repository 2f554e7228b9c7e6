"""The OpenID provider: where it is, how a code becomes an ID token, and whether that token is to be believed."""

import time
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from shared.errors import IdentityProviderUnavailable, SingleSignOnRefused
from shared.settings import SingleSignOnSettings

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 1024 * 1024
DISCOVERY_SECONDS = 3600.0
KEYS_AGAIN_SECONDS = 10.0
"""A token signed by a key that is not known yet makes us ask for the keys again, but not more often than this."""

LEEWAY_SECONDS = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Only signatures by a key of the provider's own: with `none` or a shared secret anybody could make tokens."""


class Discovery(msgspec.Struct, frozen=True):
    """OpenID Connect Discovery 1.0 §3, what of it is needed."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _TokenAnswer(msgspec.Struct, frozen=True):
    id_token: str


class OpenIDProvider:
    """One for the process. Asks the provider nothing before somebody wants to log in."""

    def __init__(self, settings: SingleSignOnSettings) -> None:
        self._settings = settings
        self._client: aiohttp.ClientSession | None = None
        self._discovery: tuple[float, Discovery] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def authorization_url(self, *, state: str, nonce: str, challenge: str) -> str:
        """Where the browser goes. Raises IdentityProviderUnavailable."""
        discovery = await self._discover()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._settings.client_id,
                "redirect_uri": self._settings.redirect_url,
                "scope": " ".join(self._settings.scopes),
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        separator = "&" if "?" in discovery.authorization_endpoint else "?"
        return f"{discovery.authorization_endpoint}{separator}{query}"

    async def claims(self, code: str, *, verifier: str, nonce: str) -> dict[str, Any]:
        """What the ID token says that a code is good for. Raises IdentityProviderUnavailable, SingleSignOnRefused."""
        discovery = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_url,
            "code_verifier": verifier,
            "client_id": self._settings.client_id,
        }
        headers = {}
        if self._settings.client_secret:
            # Encoded before it is joined: RFC 6749 §2.3.1.
            user, password = (quote(part, safe="") for part in (self._settings.client_id, self._settings.client_secret))
            headers["Authorization"] = aiohttp.encode_basic_auth(user, password)
        status, body = await self._ask("POST", discovery.token_endpoint, data=form, headers=headers)
        if status in (400, 401, 403):
            raise SingleSignOnRefused("the provider did not accept the login")
        return await self._verify(_decoded(status, body, _TokenAnswer).id_token, nonce)

    async def _verify(self, token: str, nonce: str) -> dict[str, Any]:
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": self._settings.client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            try:
                decoded = jwt.decode(token, await self._key_set(), algorithms=ALGORITHMS)
            except (JoseError, ValueError):
                # Perhaps by a key that is newer than what we know.
                decoded = jwt.decode(token, await self._key_set(newer=True), algorithms=ALGORITHMS)
            claims: dict[str, Any] = decoded.claims
            rules.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise SingleSignOnRefused("the provider's token cannot be believed") from error
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self._settings.client_id:
            raise SingleSignOnRefused("the provider's token is meant for somebody else")
        if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= 255 or "\x00" in claims["sub"]:
            raise SingleSignOnRefused("the provider's token names nobody")
        return claims

    async def _discover(self) -> Discovery:
        if self._discovery is None or time.monotonic() - self._discovery[0] > DISCOVERY_SECONDS:
            url = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
            found = _decoded(*await self._ask("GET", url), Discovery)
            if found.issuer != self._settings.issuer:
                raise IdentityProviderUnavailable(
                    "the provider calls itself by another name than the configured issuer"
                )
            self._discovery = (time.monotonic(), found)
        return self._discovery[1]

    async def _key_set(self, *, newer: bool = False) -> KeySet:
        age = KEYS_AGAIN_SECONDS if newer else DISCOVERY_SECONDS
        if self._keys is None or time.monotonic() - self._keys[0] > age:
            found = _decoded(*await self._ask("GET", (await self._discover()).jwks_uri), dict[str, Any])
            self._keys = (time.monotonic(), KeySet.import_key_set(found))
        return self._keys[1]

    async def _ask(self, method: str, url: str, **request: Any) -> tuple[int, bytes]:
        if self._client is None:
            self._client = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            )
        try:
            async with self._client.request(method, url, allow_redirects=False, **request) as answer:
                return answer.status, await answer.content.read(MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise IdentityProviderUnavailable from error


def _decoded(status: int, body: bytes, kind: Any) -> Any:
    if status != 200:
        raise IdentityProviderUnavailable(f"the provider answered {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise IdentityProviderUnavailable("the provider's answer cannot be read") from None
