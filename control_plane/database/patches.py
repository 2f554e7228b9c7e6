"""PATCH bodies applied to rows."""

from collections.abc import Container

import msgspec

from control_plane.database.base import Base


def apply_patch(row: Base, patch: msgspec.Struct, *, skip: Container[str] = ()) -> None:
    """Copy every field of the body that was given (is not UNSET) to the column of the same name, except `skip`."""
    for name in patch.__struct_fields__:
        value = getattr(patch, name)
        if value is not msgspec.UNSET and name not in skip:
            setattr(row, name, value)
