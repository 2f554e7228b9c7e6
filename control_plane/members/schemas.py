from datetime import datetime
from typing import Self
from uuid import UUID

import msgspec

from control_plane.fields import Email, Password, ShortText, Username
from control_plane.members.tables import Membership
from control_plane.users.tables import User


class MemberBody(msgspec.Struct, forbid_unknown_fields=True):
    user_id: UUID
    is_admin: bool = False


class MemberUserBody(msgspec.Struct, forbid_unknown_fields=True):
    """A new user who becomes a member at once."""

    username: Username
    password: Password
    email: Email | None = None
    display_name: ShortText | None = None
    is_admin: bool = False


class MembershipPatch(msgspec.Struct, forbid_unknown_fields=True):
    is_admin: bool


class MemberView(msgspec.Struct):
    """`created_at` is when the user joined."""

    user_id: UUID
    username: str
    email: str | None
    is_sys_admin: bool
    is_admin: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User, membership: Membership) -> Self:
        return cls(
            user_id=user.id,
            username=user.username,
            email=user.email,
            is_sys_admin=user.is_sys_admin,
            is_admin=membership.is_admin,
            created_at=membership.created_at,
        )
