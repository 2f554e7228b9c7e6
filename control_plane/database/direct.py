"""Statements that a session's transaction runs past the ORM."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.sessions import LazySession, Soon
from control_plane.database.statements import Question, Row


async def run(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The rows of each answer. One round trip in all, the beginning of the transaction included. What the session has
    not flushed they do not see.

    Raises DBAPIError, as the session itself.
    """
    return await lazy_session(session).run(*questions)


async def look(session: AsyncSession, question: Question) -> list[Row]:
    """The same for who only reads, and needs no transaction for it: it may share a connection. Raises DBAPIError."""
    return await lazy_session(session).look(question)


def run_soon(session: AsyncSession, question: Question) -> Soon:
    """Together with the next one that is run, at the latest before the commit. Not for what may be refused, and not
    where part of the transaction may be taken back. Who awaits it gets the rows of the answer.
    """
    lazy = lazy_session(session)
    soon = Soon(lazy, question)
    lazy.waiting.append(soon)
    return soon


def is_flushed(session: AsyncSession) -> bool:
    """Whether there is nothing that the ORM has not stored yet."""
    return lazy_session(session).is_flushed


def lazy_session(session: AsyncSession) -> LazySession:
    assert isinstance(session, LazySession)  # noqa: S101 - `Database` makes no others, and who uses one need not know
    return session
