from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.auth.grants import known_permissions
from control_plane.fields import LongText, Name
from control_plane.roles.built_in import BuiltInRole
from control_plane.roles.tables import Role, UserRole
from control_plane.users.tables import User
from shared.security.permissions import Permission

RoleScope = Annotated[
    Literal["system", "organization"],
    Meta(description="`system`: counts in the system and in every organization; `organization`: where it is given."),
]
Permissions = Annotated[list[Permission], Meta(min_length=1, max_length=100)]


class RoleBody(msgspec.Struct, forbid_unknown_fields=True):
    """A role of an organization holds no permission of the system. `scope` never changes."""

    name: Name
    scope: RoleScope
    permissions: Permissions
    description: LongText | None = None


class RolePatch(msgspec.Struct, forbid_unknown_fields=True):
    """`permissions` are replaced as a whole."""

    name: Name | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET
    description: LongText | UnsetType | None = UNSET


class RoleView(msgspec.Struct):
    """The times are null for a built-in role, which never changes."""

    id: UUID
    name: str
    scope: RoleScope
    description: str | None
    is_built_in: bool
    permissions: list[Permission]
    created_at: datetime | None
    updated_at: datetime | None

    @classmethod
    def of(cls, role: Role | BuiltInRole) -> Self:
        is_built_in = isinstance(role, BuiltInRole)
        return cls(
            id=role.id,
            name=role.name,
            scope=msgspec.convert(role.scope, RoleScope),
            description=role.description,
            is_built_in=is_built_in,
            permissions=role.permissions if isinstance(role, BuiltInRole) else permissions_of(role),
            created_at=None if isinstance(role, BuiltInRole) else role.created_at,
            updated_at=None if isinstance(role, BuiltInRole) else role.updated_at,
        )


class HolderBody(msgspec.Struct, forbid_unknown_fields=True):
    """`org_id` is for roles of an organization, and only for them; the user must be a member there."""

    user_id: UUID
    org_id: UUID | None = None


class HolderView(msgspec.Struct):
    """`created_at` is when the user was given the role."""

    user_id: UUID
    username: str
    org_id: UUID | None
    created_at: datetime

    @classmethod
    def of(cls, given: UserRole, user: User) -> Self:
        return cls(user.id, user.username, given.org_id, given.created_at)


class PermissionView(msgspec.Struct):
    """`built_in_roles` are those that hold it."""

    permission: Permission
    is_of_system: bool
    built_in_roles: list[str]


def permissions_of(role: Role) -> list[Permission]:
    return sorted(known_permissions({held.permission for held in role.held}))
