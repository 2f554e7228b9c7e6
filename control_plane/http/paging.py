"""Lists: `?limit=&cursor=` in, `{items, next_cursor}` out.

A cursor is opaque to callers. It names the last item of the page before, so that pages neither repeat nor skip items
while others are added or removed.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from shared.errors import FieldError, InvalidRequest
from shared.ids import parse_id

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

T = TypeVar("T")
R = TypeVar("R")

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        name="cursor", max_length=500, description="`next_cursor` of the page before; absent for the first."
    ),
]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """`next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None


def whole(items: Sequence[T]) -> Page[T]:
    """A list that is never longer than one page."""
    return Page(list(items))


def page_of(rows: Sequence[R], limit: int, *, key: Callable[[R], object], show: Callable[[R], T]) -> Page[T]:
    """A page from `limit + 1` rows, of which the last only tells that there is another page."""
    shown = rows[:limit]
    following = encode_cursor(key(shown[-1])) if len(rows) > limit else None
    return Page([show(row) for row in shown], following)


def encode_cursor(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, kind: type[T]) -> T | None:
    """What `encode_cursor` was given. Raises InvalidRequest for anything that is not one of our cursors."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError, UnicodeError):
        raise InvalidRequest(
            "the cursor is not one of ours", errors=(FieldError("cursor", "invalid", "not a cursor of this list"),)
        ) from None


def decode_id_cursor(cursor: str | None) -> UUID | None:
    """The id a cursor of a list in id order names."""
    text = decode_cursor(cursor, str)
    if text is None:
        return None
    found = parse_id(text)
    if found is None:
        raise InvalidRequest(
            "the cursor is not one of ours", errors=(FieldError("cursor", "invalid", "not a cursor of this list"),)
        )
    return found
