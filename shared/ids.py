"""Identifiers: UUIDv7 for everything stored (ordered by creation), ULID for session ids."""

from datetime import datetime
from uuid import UUID

from ulid import ULID
from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A new UUIDv7. Ids of one process sort in the order they were made."""
    return uuid7()


def first_id_at(moment: datetime) -> UUID:
    """Ids made before that millisecond are smaller, the others are not."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def new_session_id() -> str:
    """A new ULID, the `jti` of a session token."""
    return str(ULID())


def parse_id(text: str) -> UUID | None:
    """The UUID written in `text`, or None: an id that does not parse is simply an id that does not exist."""
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
