from datetime import datetime
from typing import Self
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from control_plane.fields import Email, Password, ShortText, Username
from control_plane.users.tables import User


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    username: Username
    password: Password
    email: Email | None = None
    display_name: ShortText | None = None
    is_sys_admin: bool = False


class UserPatch(msgspec.Struct, forbid_unknown_fields=True):
    """A new `password` ends the user's sessions."""

    email: Email | UnsetType | None = UNSET
    display_name: ShortText | UnsetType | None = UNSET
    password: Password | UnsetType = UNSET
    is_sys_admin: bool | UnsetType = UNSET


class UserView(msgspec.Struct):
    user_id: UUID
    username: str
    email: str | None
    display_name: str | None
    is_sys_admin: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            user_id=user.id,
            username=user.username,
            email=user.email,
            display_name=user.display_name,
            is_sys_admin=user.is_sys_admin,
            created_at=user.created_at,
            updated_at=user.updated_at,
        )
