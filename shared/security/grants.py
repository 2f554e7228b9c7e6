"""What one user may do in one organization (or in the system), cached in Redis so that both planes agree at once.

The truth is in PostgreSQL. A cached grant carries the generations of its user and its organization as they were
*before* it was read; whoever changes a membership, a role or an organization raises the generation, and every older
grant is dead on the very next request. A change raises it before committing as well as after: when Redis is away the
change fails instead of leaving a stale grant alive.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import lru_cache
from typing import Literal, cast
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from shared.errors import NotAuthenticated, NotFound, OrganizationSuspended, PermissionMissing
from shared.security.permissions import (
    EVERYBODYS_PERMISSIONS,
    ORG_ADMIN_PERMISSIONS,
    ROLE_PERMISSIONS,
    Permission,
    Role,
)

GRANT_SECONDS = 300
"""How long an unused grant stays cached; correctness never depends on it."""


class Grant(msgspec.Struct, frozen=True):
    """`role` is the strongest built-in one and None for a caller who has no place there; `org_status` is None outside
    any organization and for an unknown one. `is_member` tells a sys_admin who also belongs to the organization from one
    who only looks after it. `custom` is what custom roles add to the built-in one, `narrowed_to` all that an API key
    leaves of it.
    """

    user_id: UUID
    org_id: UUID | None
    username: str
    is_sys_admin: bool
    is_alive: bool
    role: Role | None
    is_member: bool
    org_status: Literal["active", "suspended"] | None
    custom: tuple[Permission, ...] = ()
    narrowed_to: frozenset[Permission] | None = None

    @property
    def permissions(self) -> frozenset[Permission]:
        """Everything the caller may do here."""
        if not self.is_alive:
            return frozenset()
        if self.narrowed_to is not None:
            return self.narrowed_to
        held = ROLE_PERMISSIONS[self.role] if self.role else EVERYBODYS_PERMISSIONS
        return held.union(self.custom) if self.custom else held

    def require(self, permission: Permission) -> None:
        """Raises NotAuthenticated (deleted user), NotFound (no place in the organization) or PermissionMissing.

        NotFound rather than a refusal: another organization's ids must look like ids that do not exist. That includes a
        caller whose custom roles reach into every organization, for whatever those roles do not hold.
        """
        if not self.is_alive:
            raise NotAuthenticated
        is_held = permission in self.permissions
        if self.org_id is not None and (self.org_status is None or not (is_held or self.role)):
            raise NotFound
        if not is_held:
            raise PermissionMissing(f"this needs the permission {permission.value}")

    def require_place(self) -> None:
        """Raises NotFound for an organization that is unknown or in which the caller may do nothing."""
        if self.org_status is None or not (self.role or self.custom):
            raise NotFound

    def require_all(self, permissions: Collection[Permission]) -> None:
        """What somebody gives to others they must hold themselves. Raises PermissionMissing."""
        if missing := sorted(set(permissions) - self.permissions):
            raise PermissionMissing(f"nobody gives what they do not hold: {', '.join(missing)}")

    def narrowed(self, scopes: frozenset[Permission]) -> "Grant":
        """The same place with these permissions at most. The role becomes one whose permissions are all among them, so
        that nobody is taken for more than they are.
        """
        if self.is_sys_admin and Permission.SYSTEM_ADMIN in scopes:
            return self
        role = self.role
        if role is not None:
            role = "org_admin" if role != "user" and scopes >= ORG_ADMIN_PERMISSIONS else "user"
        return msgspec.structs.replace(
            self, role=role, is_sys_admin=False, custom=(), narrowed_to=self.permissions & scopes
        )

    def of_nobody_here(self) -> "Grant":
        """The same user without any place here, as if the organization did not exist."""
        return msgspec.structs.replace(
            self, role=None, is_sys_admin=False, is_member=False, org_status=None, custom=(), narrowed_to=frozenset()
        )

    def require_key_use(self) -> None:
        """Raises PermissionMissing for a sys_admin from outside: the BYOK rule, no use of a key that is not theirs."""
        if not self.is_member:
            raise PermissionMissing("only members of the organization may use its model keys")

    def require_active_organization(self) -> None:
        """Raises OrganizationSuspended unless the organization is active."""
        if self.org_status == "suspended":
            raise OrganizationSuspended


GrantLoader = Callable[[UUID, UUID | None], Awaitable[Grant]]
"""Reads a grant from the truth: a query in the control plane, `GET /internal/grants/…` in a worker."""


class _CachedGrant(msgspec.Struct, frozen=True):
    user_generation: int
    org_generation: int
    grant: Grant


class GrantCache:
    """One round trip to Redis per lookup when the grant is cached."""

    def __init__(self, redis: "Redis", load: GrantLoader) -> None:
        self._redis = redis
        self._load = load
        self._decoder = msgspec.json.Decoder(_CachedGrant)

    async def get(self, user_id: UUID, org_id: UUID | None = None) -> Grant:
        """The current grant; for an unknown organization one without a role."""
        values = cast("list[bytes | None]", await self._redis.mget(self.keys(user_id, org_id)))
        return await self.read(user_id, org_id, values)

    def keys(self, user_id: UUID, org_id: UUID | None) -> tuple[str, str, str]:
        """What `read` wants the values of, for a caller who has more to ask Redis in the same round trip."""
        return _keys(user_id, org_id)

    async def read(self, user_id: UUID, org_id: UUID | None, values: Sequence[bytes | None]) -> Grant:
        """What `get` returns, out of the values of its `keys`."""
        raw, user_gen, org_gen = values
        user_generation, org_generation = int(user_gen or 0), int(org_gen or 0)
        if raw is not None:
            cached = self._decoder.decode(raw)
            if (cached.user_generation, cached.org_generation) == (user_generation, org_generation):
                return cached.grant
        grant = await self._load(user_id, org_id)
        entry = _CachedGrant(user_generation, org_generation, grant)
        await self._redis.set(self.keys(user_id, org_id)[0], msgspec.json.encode(entry), ex=GRANT_SECONDS)
        return grant


class GrantInvalidator:
    """Kills cached grants. Call before the commit that changes them and again after it."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    async def user_changed(self, user_id: UUID) -> None:
        await self._redis.incr(_user_generation(user_id))

    async def users_changed(self, user_ids: Collection[UUID]) -> None:
        """The same for everybody who holds a role that changes."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for user_id in user_ids:
                pipe.incr(_user_generation(user_id))
            await pipe.execute()

    async def organization_changed(self, org_id: UUID) -> None:
        await self._redis.incr(org_generation(org_id))


@lru_cache(maxsize=4096)
def _keys(user_id: UUID, org_id: UUID | None) -> tuple[str, str, str]:
    return f"perms:{user_id}:{org_id or '-'}", _user_generation(user_id), org_generation(org_id)


def _user_generation(user_id: UUID) -> str:
    return f"perms_generation:user:{user_id}"


def org_generation(org_id: UUID | None) -> str:
    return f"perms_generation:org:{org_id or '-'}"
