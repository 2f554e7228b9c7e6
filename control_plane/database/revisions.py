"""Revisions: the order in which definitions changed, as the change feed shows it."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run
from control_plane.database.statements import Statement
from shared.errors import StaleRevision

_REVISION_LOCK = 0x0CADE4CE
# The number is taken for the row that the lock gives, so not before there is a lock.
NEXT = Statement(
    text(
        "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(:key)) SELECT nextval('revision_seq') FROM locked"
    ).bindparams(key=_REVISION_LOCK)
)


async def next_revision(session: AsyncSession) -> int:
    """The revision for a change made in this transaction.

    The lock is held until the transaction ends, so revisions become visible in the order of their numbers. Without it a
    reader of the change feed could see 8 while 7 is still uncommitted, move its mark past 7 and never learn of it.
    Call it last, right before the writes, to hold the lock briefly.
    """
    [[[revision]]] = await run(session, NEXT())
    return int(revision)


def etag(revision: int) -> str:
    """A revision as callers see it."""
    return f'"{revision}"'


def require_match(if_match: str | None, revision: int) -> None:
    """Raise StaleRevision unless `If-Match` is absent, `*` or lists the current ETag.

    A weak tag counts as well: proxies that compress weaken our tags, and a revision is as good either way. Call it with
    the row locked, or another change may come between the check and the write.
    """
    if if_match is None:
        return
    given = [part.strip().removeprefix("W/") for part in if_match.split(",")]
    if "*" not in given and etag(revision) not in given:
        raise StaleRevision(f"the current revision is {etag(revision)}")
