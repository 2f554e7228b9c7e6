"""Who is calling, by a session's token or an API key, and what they may do: found out alike by both planes."""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.clock import Clock
from shared.errors import NotAuthenticated, NotFound, PermissionMissing
from shared.security.api_key_uses import APIKeyUses
from shared.security.api_keys import PREFIX, APIKeyCache, APIKeyRecord, PresentedKey, read_key
from shared.security.grants import Grant, GrantCache
from shared.security.sessions import SessionStore
from shared.security.tokens import TokenClaims, TokenSigner

API_KEY_HEADER = "x-api-key"


class Principal(msgspec.Struct, frozen=True):
    """Whoever is calling. `grant` is for the organization in the path, or for the system when there is none; either
    `session_id` or `api_key` is there.
    """

    user_id: UUID
    grant: Grant
    session_id: str | None = None
    api_key: APIKeyRecord | None = None

    @property
    def only_org_id(self) -> UUID | None:
        """The one organization an API key is for; None for who may be anywhere."""
        return self.api_key.org_id if self.api_key else None

    def require_session(self) -> None:
        """Raises PermissionMissing for an API key, which makes no others: revoking it must be the end of it."""
        if self.session_id is None:
            raise PermissionMissing("this needs a session; an API key makes no other keys")


class Authenticator:
    """One round trip to Redis for each request, and no more while nothing has changed."""

    def __init__(
        self,
        *,
        redis: "Redis",
        clock: Clock,
        tokens: TokenSigner,
        sessions: SessionStore,
        grants: GrantCache,
        api_keys: APIKeyCache,
        uses: APIKeyUses,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._tokens = tokens
        self._sessions = sessions
        self._grants = grants
        self._api_keys = api_keys
        self._uses = uses

    async def identify(self, headers: Mapping[str, str], org_id: UUID | None) -> Principal:
        """Raises NotAuthenticated, never saying why. The user may be gone: `Grant.require` refuses them.

        A key is taken from `X-API-KEY`, or as the bearer token that is all an OpenAI client can send.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        key = headers.get(API_KEY_HEADER) or (token if token.startswith(PREFIX) else "")
        try:
            if key:
                return await self._by_key(read_key(key.strip()), org_id)
            return await self._by_session(self._tokens.verify(token), org_id)
        except NotFound:
            # The truth knows no such user.
            raise NotAuthenticated from None

    async def _by_session(self, claims: TokenClaims, org_id: UUID | None) -> Principal:
        # A token alone proves nothing: its session must be alive right now.
        session, *values = await self._ask(self._sessions.key(claims.session_id), claims.user_id, org_id)
        if self._sessions.read(session).user_id != claims.user_id:
            raise NotAuthenticated
        grant = await self._grants.read(claims.user_id, org_id, values)
        return Principal(claims.user_id, grant, session_id=claims.session_id)

    async def _by_key(self, presented: PresentedKey | None, org_id: UUID | None) -> Principal:
        if presented is None:
            raise NotAuthenticated
        raw, *values = await self._ask(self._api_keys.key(presented), presented.user_id, org_id)
        record = await self._api_keys.read(presented, raw, int(values[1] or 0))
        if record is None or record.user_id != presented.user_id:
            raise NotAuthenticated
        if record.expires_at is not None and record.expires_at <= self._clock.now():
            raise NotAuthenticated
        grant = await self._grants.read(record.user_id, org_id, values)
        if not grant.is_alive:
            raise NotAuthenticated
        self._uses.note(record.key_id)
        return Principal(record.user_id, record.narrow(grant), api_key=record)

    async def _ask(self, first: str, user_id: UUID, org_id: UUID | None) -> list[bytes | None]:
        return cast("list[bytes | None]", await self._redis.mget(first, *self._grants.keys(user_id, org_id)))
