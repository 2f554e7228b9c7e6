"""Who is calling, by a session's token or an API key, and what they may do: found out alike by both planes."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from shared.clock import Clock
from shared.errors import NotAuthenticated, NotFound, PermissionMissing
from shared.limits import Admission, Charge
from shared.limits.limiter import Limiter
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
    admission: Admission = msgspec.field(default_factory=Admission)

    @property
    def only_org_id(self) -> UUID | None:
        """The one organization an API key is for; None for who may be anywhere."""
        return self.api_key.org_id if self.api_key else None

    def require_session(self) -> None:
        """Raises PermissionMissing for an API key, which makes no others: revoking it must be the end of it."""
        if self.session_id is None:
            raise PermissionMissing("this needs a session; an API key makes no other keys")


class Authenticator:
    """One round trip to Redis for each request, what it uses included, and no more while nothing has changed."""

    def __init__(
        self,
        *,
        clock: Clock,
        tokens: TokenSigner,
        sessions: SessionStore,
        grants: GrantCache,
        api_keys: APIKeyCache,
        uses: APIKeyUses,
        limiter: Limiter,
    ) -> None:
        self._clock = clock
        self._tokens = tokens
        self._sessions = sessions
        self._grants = grants
        self._api_keys = api_keys
        self._uses = uses
        self._limiter = limiter

    async def identify(
        self, headers: Mapping[str, str], org_id: UUID | None, charge: Charge | None = None
    ) -> Principal:
        """Raises NotAuthenticated, never saying why. The user may be gone: `Grant.require` refuses them. So may
        `charge`, what the request will use: `Principal.admission` tells.

        A key is taken from `X-API-KEY`, or as the bearer token that is all an OpenAI client can send.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        key = headers.get(API_KEY_HEADER) or (token if token.startswith(PREFIX) else "")
        try:
            if key:
                return await self._by_key(read_key(key.strip()), org_id, charge)
            return await self._by_session(self._tokens.verify(token), org_id, charge)
        except NotFound:
            # The truth knows no such user.
            raise NotAuthenticated from None

    async def _by_session(self, claims: TokenClaims, org_id: UUID | None, charge: Charge | None) -> Principal:
        # A token alone proves nothing: its session must be alive right now.
        asked = await self._limiter.ask(
            "session",
            self._sessions.key(claims.session_id),
            self._grants.keys(claims.user_id, org_id),
            str(claims.user_id),
            org_id,
            charge,
        )
        session, *values = asked.values
        if self._sessions.read(session).user_id != claims.user_id:
            raise NotAuthenticated
        grant = await self._grants.read(claims.user_id, org_id, values)
        admission = await self._limiter.conclude(asked, grant, None)
        return Principal(claims.user_id, grant, session_id=claims.session_id, admission=admission)

    async def _by_key(self, presented: PresentedKey | None, org_id: UUID | None, charge: Charge | None) -> Principal:
        if presented is None:
            raise NotAuthenticated
        asked = await self._limiter.ask(
            "key",
            self._api_keys.key(presented),
            self._grants.keys(presented.user_id, org_id),
            presented.digest[:32],
            org_id,
            charge,
        )
        raw, *values = asked.values
        record = await self._api_keys.read(presented, raw, int(values[1] or 0))
        if record is None or record.user_id != presented.user_id:
            raise NotAuthenticated
        if record.expires_at is not None and record.expires_at <= self._clock.now():
            raise NotAuthenticated
        grant = await self._grants.read(record.user_id, org_id, values)
        if not grant.is_alive:
            raise NotAuthenticated
        self._uses.note(record.key_id)
        narrowed = record.narrow(grant)
        admission = await self._limiter.conclude(asked, narrowed, record)
        return Principal(record.user_id, narrowed, api_key=record, admission=admission)
