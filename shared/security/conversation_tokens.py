"""What a caller without a session goes on with a conversation by: a signed token that names it, and expires.

The key is derived from the deployment's secret for this purpose alone, so that no such token is ever taken for a
session's, nor the other way round.
"""

import hashlib
import hmac
from datetime import timedelta
from uuid import UUID

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from shared.clock import Clock
from shared.errors import ConversationTokenRefused
from shared.ids import parse_id

LIFETIME = timedelta(hours=24)
"""From the last answer on: every answer comes with a token of its own."""

_ALGORITHM = "HS256"
_AUDIENCE = "conversation"


class GuestConversation(msgspec.Struct, frozen=True):
    """A conversation at a central point, and the one-time user it belongs to."""

    central_id: UUID
    conversation_id: UUID
    user_id: UUID


class ConversationTokens:
    def __init__(self, secret_key: str, clock: Clock) -> None:
        derived = hmac.new(secret_key.encode(), b"conversation tokens", hashlib.sha256).digest()
        self._key = OctKey.import_key(derived)
        self._clock = clock

    def issue(self, conversation: GuestConversation) -> str:
        claims = {
            "aud": _AUDIENCE,
            "sub": str(conversation.user_id),
            "point": str(conversation.central_id),
            "conversation": str(conversation.conversation_id),
            "exp": int((self._clock.now() + LIFETIME).timestamp()),
        }
        return jwt.encode({"alg": _ALGORITHM, "typ": "JWT"}, claims, self._key, algorithms=[_ALGORITHM])

    def verify(self, token: str, central_id: UUID) -> GuestConversation:
        """Raises ConversationTokenRefused, never saying why, for one that is not ours, of another point, or expired."""
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise ConversationTokenRefused from None
        point, conversation_id, user_id = (parse_id(str(claims.get(name))) for name in ("point", "conversation", "sub"))
        expires_at = claims.get("exp")
        if not isinstance(expires_at, int) or expires_at <= self._clock.now().timestamp():
            raise ConversationTokenRefused
        if claims.get("aud") != _AUDIENCE or point != central_id or conversation_id is None or user_id is None:
            raise ConversationTokenRefused
        return GuestConversation(central_id, conversation_id, user_id)
