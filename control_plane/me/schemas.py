from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.fields import Email, Password, ShortText
from control_plane.users.tables import User


class MeView(msgspec.Struct):
    user_id: UUID
    username: str
    email: str | None
    display_name: str | None
    is_sys_admin: bool

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(user.id, user.username, user.email, user.display_name, user.is_sys_admin)


class MyProfilePatch(msgspec.Struct, forbid_unknown_fields=True):
    """`new_password` needs `current_password` beside it and ends all my other sessions."""

    email: Email | UnsetType | None = UNSET
    display_name: ShortText | UnsetType | None = UNSET
    current_password: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    new_password: Password | UnsetType = UNSET
