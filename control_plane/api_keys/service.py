"""API keys: what they may do, how long they live, and how one takes the place of another."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api_keys.repository import APIKeyRepository
from control_plane.api_keys.schemas import APIKeyBody, APIKeyPatch
from control_plane.api_keys.tables import APIKey
from control_plane.auth.grants import AccessChanges, load_reach
from control_plane.database.patches import apply_patch
from control_plane.tiers.schemas import as_decimal
from control_plane.users.repository import UserRepository
from shared.clock import Clock
from shared.errors import Conflict, FieldError, InvalidRequest
from shared.ids import new_id
from shared.security.api_keys import new_key, read_key
from shared.security.grants import GrantCache

MAX_KEYS = 100
"""Of one user: more are forgotten rather than used."""

HINT_CHARACTERS = 4


class APIKeyService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        keys: APIKeyRepository,
        users: UserRepository,
        grants: GrantCache,
        access: AccessChanges,
        clock: Clock,
    ) -> None:
        self._session = session
        self._keys = keys
        self._users = users
        self._grants = grants
        self._access = access
        self._clock = clock

    async def page(self, *, user_id: UUID | None, after: UUID | None, limit: int) -> Sequence[APIKey]:
        """Up to `limit + 1` keys of a user, or of everybody, in the order they were made."""
        return await self._keys.page(user_id=user_id, after=after, limit=limit)

    async def create(self, user_id: UUID, body: APIKeyBody) -> tuple[APIKey, str]:
        """The key's row and the key itself. Raises NotFound (user, organization), Conflict, InvalidRequest."""
        await self._users.get(user_id, for_update=True)
        await self._require_room(user_id)
        if body.expires_at is not None and body.expires_at <= self._clock.now():
            raise InvalidRequest(errors=(FieldError("expires_at", "invalid", "is in the past"),))
        await self._require_held(user_id, body)
        key = APIKey(
            id=new_id(),
            user_id=user_id,
            org_id=body.org_id,
            name=body.name,
            scopes=sorted({scope.value for scope in body.scopes}),
            expires_at=body.expires_at,
            last_used_at=None,
            budget_id=None,
            budget_per_month=as_decimal(body.budget_per_month),
        )
        return key, await self._add(key)

    async def rotate(self, user_id: UUID, key_id: UUID, *, overlap: timedelta) -> tuple[APIKey, str]:
        """A new key with the same name, scopes and end; the old one works on for `overlap`. Of the budget is left what
        was left.

        Raises NotFound, Conflict for a key that has expired.
        """
        await self._users.get(user_id, for_update=True)
        old = await self._keys.get(key_id, user_id=user_id)
        now = self._clock.now()
        if old.expires_at is not None and old.expires_at <= now:
            raise Conflict("the key has expired; make a new one")
        await self._require_room(user_id)
        new = APIKey(
            id=new_id(),
            user_id=user_id,
            org_id=old.org_id,
            name=old.name,
            scopes=old.scopes,
            expires_at=old.expires_at,
            last_used_at=None,
            budget_id=old.budget_id or old.id,
            budget_per_month=old.budget_per_month,
        )
        key = await self._add(new)
        end = now + overlap
        old.expires_at = end if old.expires_at is None else min(end, old.expires_at)
        await self._session.flush()
        self._access.of_user(user_id)
        return new, key

    async def change(self, user_id: UUID, key_id: UUID, patch: APIKeyPatch) -> APIKey:
        """Counts on the key's very next request. Raises NotFound."""
        key = await self._keys.get(key_id, user_id=user_id)
        apply_patch(key, patch, skip={"budget_per_month"})
        if patch.budget_per_month is not UNSET:
            key.budget_per_month = as_decimal(patch.budget_per_month)
        await self._session.flush()
        self._access.of_user(user_id)
        return key

    async def revoke(self, key_id: UUID, *, user_id: UUID | None) -> None:
        """A key of this user, or for None of anybody; refused on its very next request. Raises NotFound."""
        key = await self._keys.get(key_id, user_id=user_id)
        await self._keys.remove(key)
        self._access.of_user(key.user_id)

    async def _add(self, key: APIKey) -> str:
        text = new_key(key.user_id)
        presented = read_key(text)
        assert presented is not None  # noqa: S101 - we have just made it
        key.digest, key.hint = presented.digest, text[-HINT_CHARACTERS:]
        await self._keys.add(key)
        return text

    async def _require_room(self, user_id: UUID) -> None:
        if await self._keys.count(user_id) >= MAX_KEYS:
            raise Conflict(f"a user has at most {MAX_KEYS} API keys; revoke one that is not used")

    async def _require_held(self, user_id: UUID, body: APIKeyBody) -> None:
        """Raises NotFound for an organization the owner has no place in, InvalidRequest for scopes they do not hold."""
        if body.org_id is None:
            held = await load_reach(self._session, user_id)
        else:
            grant = await self._grants.get(user_id, body.org_id)
            held = grant.permissions
            grant.require_place()
        if missing := sorted(set(body.scopes) - held):
            message = f"the owner does not hold {', '.join(missing)}"
            raise InvalidRequest(errors=(FieldError("scopes", "invalid", message),))
