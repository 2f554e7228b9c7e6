"""Lists: `?limit=&cursor=` in, `{items, next_cursor}` out. A cursor names the last item of the page before."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from litestar.params import QueryParameter

from runtime_worker.http.schemas import Page
from shared.errors import FieldError, InvalidRequest

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

T = TypeVar("T")
R = TypeVar("R")

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=500, description="`next_cursor` of the page before."),
]


def page_of(rows: Sequence[R], limit: int, *, key: Callable[[R], object], show: Callable[[R], T]) -> Page[T]:
    """A page from `limit + 1` rows, of which the last only tells that there is another page."""
    shown = rows[:limit]
    following = _encode(key(shown[-1])) if len(rows) > limit else None
    return Page([show(row) for row in shown], following)


def decode_cursor(cursor: str | None, kind: type[T]) -> T | None:
    """What the page before was made with. Raises InvalidRequest for anything that is not one of our cursors."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise _not_ours() from None


def decode_position(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The time and the id a cursor names, the time in UTC. Raises InvalidRequest."""
    position = decode_cursor(cursor, tuple[datetime, UUID])
    if position is None:
        return None
    try:
        return position[0].astimezone(UTC), position[1]
    except OverflowError:
        # A time at either end of the calendar, in a zone where it is beyond that end.
        raise _not_ours() from None


def _not_ours() -> InvalidRequest:
    problem = FieldError("cursor", "invalid", "not a cursor of this list")
    return InvalidRequest("the cursor is not one of ours", errors=(problem,))


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()
