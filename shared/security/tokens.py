"""Session tokens: JWT, HS256, holding only `sub`, `jti`, `iat` and `exp`.

Everything else about a session lives in Redis and about its user in PostgreSQL, so that a token never goes stale.
"""

import time
from datetime import datetime
from uuid import UUID

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from shared.errors import NotAuthenticated
from shared.ids import parse_id

_CLAIMS = jwt.JWTClaimsRegistry(
    sub={"essential": True}, jti={"essential": True}, iat={"essential": True}, exp={"essential": True}
)


class TokenClaims(msgspec.Struct, frozen=True):
    user_id: UUID
    session_id: str
    expires_at: int


MAX_KNOWN_TOKENS = 4096
"""Of callers that come back; some 0.5 KB each."""


class TokenSigner:
    """Issues and checks tokens with one key.

    A token that was checked once is known by its text: the same text under the same key has the same claims for ever,
    so only its end has to be looked at again. Whether its session still lives is asked elsewhere, every time.
    """

    def __init__(self, secret_key: str, algorithm: str = "HS256") -> None:
        self._key = OctKey.import_key(secret_key)
        self._algorithm = algorithm
        self._known: dict[str, TokenClaims] = {}

    def issue(self, user_id: UUID, session_id: str, *, issued_at: datetime, expires_at: datetime) -> str:
        claims = {
            "sub": str(user_id),
            "jti": session_id,
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode({"alg": self._algorithm, "typ": "JWT"}, claims, self._key, algorithms=[self._algorithm])

    def verify(self, token: str) -> TokenClaims:
        """The claims of a token whose signature and times hold. Raises NotAuthenticated, never saying which failed."""
        known = self._known.get(token)
        if known is not None:
            if known.expires_at <= time.time():
                del self._known[token]
                raise NotAuthenticated
            return known
        claims = self._checked(token)
        if len(self._known) >= MAX_KNOWN_TOKENS:
            del self._known[next(iter(self._known))]
        self._known[token] = claims
        return claims

    def _checked(self, token: str) -> TokenClaims:
        try:
            decoded = jwt.decode(token, self._key, algorithms=[self._algorithm])
            _CLAIMS.validate(decoded.claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            # The header is read before the signature is checked, and it may hold any JSON (`"crit": 1`).
            raise NotAuthenticated from None
        claims = decoded.claims
        user_id = parse_id(claims["sub"])
        if user_id is None or not isinstance(claims["jti"], str):
            raise NotAuthenticated
        return TokenClaims(user_id=user_id, session_id=claims["jti"], expires_at=int(claims["exp"]))
