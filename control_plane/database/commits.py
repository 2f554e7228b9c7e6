"""What must happen together with a commit but outside PostgreSQL, such as ending the sessions of a deleted user."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run
from control_plane.database.statements import COMMIT, Question

_KEY = "around_commit"

CommitAction = Callable[[], Awaitable[object]]


def around_commit(session: AsyncSession, action: CommitAction) -> None:
    """Run `action` right before the commit of this transaction and once more right after it; it must be repeatable.

    Before: when it fails the change fails too, so nothing stale survives a store that is away. After: what somebody
    cached or started from the old truth between the first run and the commit is caught as well.
    """
    session.info.setdefault(_KEY, []).append(action)


async def commit(session: AsyncSession, *last: Question) -> None:
    """Commit with the actions registered by `around_commit`. `last` goes along in the same round trip; everything else
    has been flushed by whoever gives it.
    """
    actions: list[CommitAction] = session.info.pop(_KEY, [])
    for action in actions:
        await action()
    try:
        if last:
            await run(session, *last, COMMIT)
        await session.commit()
    finally:
        # Also when it failed: PostgreSQL may have gone away after the commit and before its answer.
        for action in actions:
            await action()
