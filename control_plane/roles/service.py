"""Custom roles: sets of permissions, given to users. Every change counts on the holders' very next request."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.grants import AccessChanges
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.members.service import MemberService
from control_plane.roles.built_in import BUILT_IN, BUILT_IN_BY_ID, BuiltInRole
from control_plane.roles.repository import Holder, RoleRepository
from control_plane.roles.schemas import RoleBody, RolePatch, permissions_of
from control_plane.roles.tables import Role, RolePermission, UserRole
from control_plane.users.repository import UserRepository
from shared.errors import Conflict, FieldError, InUse, InvalidRequest, NotFound
from shared.ids import new_id
from shared.security.grants import Grant
from shared.security.permissions import Permission


class RoleService:
    """`by` is what the caller may do in the system: nobody makes or gives a role that holds more than they do."""

    def __init__(
        self,
        *,
        session: AsyncSession,
        roles: RoleRepository,
        users: UserRepository,
        members: MemberService,
        access: AccessChanges,
    ) -> None:
        self._session = session
        self._roles = roles
        self._users = users
        self._members = members
        self._access = access

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[Role | BuiltInRole]:
        """Up to `limit + 1` roles, the built-in ones first."""
        built_in: list[Role | BuiltInRole] = [role for role in BUILT_IN if after is None or role.id > after]
        return [*built_in, *await self._roles.page(after=after, limit=limit)][: limit + 1]

    async def get(self, role_id: UUID) -> Role | BuiltInRole:
        """Raises NotFound."""
        return BUILT_IN_BY_ID.get(role_id) or await self._roles.get(role_id)

    async def create(self, body: RoleBody, *, by: Grant) -> Role:
        """Raises AlreadyExists, InvalidRequest, PermissionMissing."""
        _check_scope(body.scope, body.permissions)
        by.require_all(body.permissions)
        role = Role(id=new_id(), name=body.name, scope=body.scope, description=body.description)
        role.held = _rows(body.permissions)
        with _unique():
            await self._roles.add(role)
        return role

    async def change(self, role_id: UUID, patch: RolePatch, *, by: Grant, if_match: str | None) -> Role:
        """Raises NotFound, Conflict for a built-in role, StaleRevision, AlreadyExists, InvalidRequest,
        PermissionMissing.
        """
        role = await self._get_custom(role_id)
        require_match(if_match, role.revision)
        apply_patch(role, patch, skip={"permissions"})
        if patch.permissions is not UNSET:
            _check_scope(role.scope, patch.permissions)
            by.require_all(set(patch.permissions) - set(permissions_of(role)))
            wanted = set(patch.permissions)
            kept = [row for row in role.held if row.permission in wanted]
            role.held = kept + _rows(wanted - {Permission(row.permission) for row in kept})
            self._access.of_users(await self._roles.holder_ids(role_id))
        with _unique(), self._session.no_autoflush:
            role.revision = await next_revision(self._session)
            await self._session.flush()
        return role

    async def delete(self, role_id: UUID, *, if_match: str | None) -> None:
        """Raises NotFound, Conflict for a built-in role, StaleRevision, InUse while somebody holds it."""
        role = await self._get_custom(role_id)
        require_match(if_match, role.revision)
        if holders := await self._roles.holder_ids(role_id):
            raise InUse(f"{len(set(holders))} users hold this role; take it from them first")
        await self._roles.remove(role)

    async def holders(self, role_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Holder]:
        """Who was given a custom role, in that order. Raises NotFound, Conflict for a built-in role."""
        await self._get_custom(role_id, for_update=False)
        return await self._roles.holders(role_id, after=after, limit=limit)

    async def give(self, role_id: UUID, user_id: UUID, org_id: UUID | None, *, by: Grant) -> Holder:
        """Raises NotFound for an unknown role or user or one who is no member of the organization, Conflict,
        AlreadyExists, InvalidRequest, PermissionMissing.
        """
        role = await self._get_custom(role_id, for_update=False)
        by.require_all(permissions_of(role))
        if (role.scope == "organization") is (org_id is None):
            rule = "needed for a role of an organization" if org_id is None else "a role of the system is given without"
            raise InvalidRequest(errors=(FieldError("org_id", "invalid", rule),))
        user = await self._users.get(user_id, for_update=True)
        if org_id is not None:
            await self._members.get(org_id, user_id)
        given = UserRole(id=new_id(), user_id=user_id, role_id=role_id, org_id=org_id)
        refusals = {
            "uq_user_roles_user_id_role_id_org_id": taken("user_id", "this role for this user"),
            # Removed from the organization, or the role deleted, in the meantime.
            "fk_user_roles_membership": NotFound(),
            "fk_user_roles_role_id_roles": NotFound(),
        }
        with violations(refusals):
            await self._roles.add(given)
        self._access.of_user(user_id)
        return given, user

    async def take(self, role_id: UUID, user_id: UUID, org_id: UUID | None) -> None:
        """Raises NotFound for somebody who does not hold it there, Conflict for a built-in role."""
        _refuse_built_in(role_id)
        if not await self._roles.take(role_id, user_id, org_id):
            raise NotFound
        self._access.of_user(user_id)

    async def take_all(self, user_id: UUID) -> None:
        """Take every role from a user who is being deleted."""
        await self._roles.take_all(user_id)

    async def _get_custom(self, role_id: UUID, *, for_update: bool = True) -> Role:
        _refuse_built_in(role_id)
        return await self._roles.get(role_id, for_update=for_update)


def _refuse_built_in(role_id: UUID) -> None:
    if role_id in BUILT_IN_BY_ID:
        raise Conflict("built-in roles never change; they come with being sys_admin or a member")


def _check_scope(scope: str, permissions: Collection[Permission]) -> None:
    if scope == "organization" and (foreign := sorted(p for p in permissions if p.is_of_system)):
        message = f"a role of an organization cannot hold {', '.join(foreign)}"
        raise InvalidRequest(errors=(FieldError("permissions", "invalid", message),))


def _rows(permissions: Collection[Permission]) -> list[RolePermission]:
    return [RolePermission(permission=permission.value) for permission in sorted(set(permissions))]


def _unique() -> AbstractContextManager[None]:
    return violations({"uq_roles_name": taken("name", "this name")})
