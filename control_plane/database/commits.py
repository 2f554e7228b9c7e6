"""What must happen together with a commit but outside PostgreSQL, such as ending the sessions of a deleted user."""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import lazy_session, run
from control_plane.database.statements import COMMIT, Question, Row

_KEY = "around_commit"
_LAST = "last"

CommitAction = Callable[[], Awaitable[object]]
Last = Callable[[], Awaitable[Sequence[Question]]]


def around_commit(session: AsyncSession, action: CommitAction) -> None:
    """Run `action` right before the commit of this transaction and once more right after it; it must be repeatable.

    Before: when it fails the change fails too, so nothing stale survives a store that is away. After: what somebody
    cached or started from the old truth between the first run and the commit is caught as well.
    """
    session.info.setdefault(_KEY, []).append(action)


def last_of_all(session: AsyncSession, last: Last) -> None:
    """Tell what will be asked right before the commit of this transaction, of which `last` is asked once."""
    session.info[_LAST] = last


async def run_last(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The rows of the answers to the last questions of a transaction, which is then over.

    Everything goes in one round trip with the commit where nothing has to happen around that, so that the locks that
    everybody takes, those of the revisions and of the audit chain, are not held while the process does something else.
    Where it has, or nobody told what comes last, the commit is the caller's as ever.
    """
    lazy, last = lazy_session(session), session.info.get(_LAST)
    if last is None or session.info.get(_KEY) or lazy.needs_orm:
        return await run(session, *questions)
    return (await lazy.run_and_end(*questions, *await last()))[: len(questions)]


def is_over(session: AsyncSession) -> bool:
    """Whether `run_last` has committed."""
    return lazy_session(session).is_over


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
