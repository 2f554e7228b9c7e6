"""Logins on their way: what must come back from the provider, kept in Redis for as long as a person takes to log in."""

import base64
import hashlib
import secrets

import msgspec
from redis.asyncio import Redis

from shared.errors import SingleSignOnRefused

ATTEMPT_SECONDS = 600


class LoginAttempt(msgspec.Struct, frozen=True):
    """`verifier` proves to the provider that whoever has the code also asked for it (RFC 7636), and `nonce` ties the
    token to this attempt.
    """

    state: str
    nonce: str
    verifier: str
    return_to: str | None

    @property
    def challenge(self) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class LoginAttempts:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    async def begin(self, return_to: str | None) -> LoginAttempt:
        attempt = LoginAttempt(_random(), _random(), _random(), return_to)
        await self._redis.set(_key(attempt.state), msgspec.json.encode(attempt), ex=ATTEMPT_SECONDS)
        return attempt

    async def finish(self, state: str) -> LoginAttempt:
        """The attempt, once. Raises SingleSignOnRefused for one that is unknown, over or was finished before."""
        raw = await self._redis.getdel(_key(state))
        if raw is None:
            raise SingleSignOnRefused("this login has expired; begin again")
        return msgspec.json.decode(raw, type=LoginAttempt)


def _random() -> str:
    return secrets.token_urlsafe(32)


def _key(state: str) -> str:
    return f"single_sign_on:{hashlib.sha256(state.encode()).hexdigest()}"
