"""Statements that a session's transaction runs past the ORM."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.sessions import LazySession
from control_plane.database.statements import Question, Row


async def run(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The rows of each answer. One round trip in all, the beginning of the transaction included. What the session has
    not flushed they do not see.

    Raises DBAPIError, as the session itself.
    """
    return await lazy_session(session).run(*questions)


def run_later(session: AsyncSession, question: Question) -> None:
    """Together with the next one that is run, at the latest before the commit. Not for what may be refused, and not
    where part of the transaction may be taken back.
    """
    lazy_session(session).waiting.append(question)


def offer_company(session: AsyncSession, question: Question) -> None:
    """Something that has to be asked in this transaction in any case, and may be asked together with its revision."""
    lazy_session(session).company = question


async def run_with_company(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The same as `run`, for what locks as much as what was offered and comes right before it."""
    lazy = lazy_session(session)
    company, lazy.company = lazy.company, None
    if company is None:
        return await run(session, *questions)
    *answers, answer = await run(session, *questions, company)
    lazy.answer = (company, answer)
    return answers


async def run_if_new(session: AsyncSession, question: Question) -> list[Row]:
    """The rows of one answer, which may have come with others already."""
    lazy = lazy_session(session)
    answered, lazy.answer, lazy.company = lazy.answer, None, None
    if answered is not None:
        company, answer = answered
        if (company.sql, company.values) == (question.sql, question.values):
            return answer
    return (await run(session, question))[0]


def is_flushed(session: AsyncSession) -> bool:
    """Whether there is nothing that the ORM has not stored yet."""
    return lazy_session(session).is_flushed


def lazy_session(session: AsyncSession) -> LazySession:
    assert isinstance(session, LazySession)  # noqa: S101 - `Database` makes no others, and who uses one need not know
    return session
