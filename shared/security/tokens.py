"""Session tokens: JWT, HS256, holding only `sub`, `jti`, `iat` and `exp`.

Everything else about a session lives in Redis and about its user in PostgreSQL, so that a token never goes stale.
"""

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


class TokenSigner:
    """Issues and checks tokens with one key."""

    def __init__(self, secret_key: str, algorithm: str = "HS256") -> None:
        self._key = OctKey.import_key(secret_key)
        self._algorithm = algorithm

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
