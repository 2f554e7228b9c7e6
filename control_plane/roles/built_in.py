"""The roles that come with the platform. They are given by being sys_admin and by membership, and never change."""

from uuid import UUID

import msgspec

from shared.security.permissions import ROLE_PERMISSIONS, Permission
from shared.security.permissions import Role as RoleName


class BuiltInRole(msgspec.Struct, frozen=True):
    id: UUID
    name: RoleName
    scope: str
    description: str

    @property
    def permissions(self) -> list[Permission]:
        return sorted(ROLE_PERMISSIONS[self.name])


# Their ids sort before every UUIDv7, so that they come first in lists.
BUILT_IN: tuple[BuiltInRole, ...] = (
    BuiltInRole(UUID(int=1), "sys_admin", "system", "Looks after the platform and may do everything in it."),
    BuiltInRole(UUID(int=2), "org_admin", "organization", "Looks after one organization."),
    BuiltInRole(UUID(int=3), "user", "organization", "Belongs to an organization and chats with its orchestrators."),
)
BUILT_IN_BY_ID = {role.id: role for role in BUILT_IN}
