"""Statements that a session's transaction runs past the ORM."""

from typing import cast

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only

from control_plane.database.connection import BoundedConnection
from control_plane.database.statements import Question, Row

_DRIVER = "driver"
_WAITING = "waiting"
_COMPANY = "company"
_ANSWER = "answer"


async def run(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The rows of each answer. One round trip in all, the beginning of the transaction included. What the session has
    not flushed they do not see.

    Raises DBAPIError, as the session itself.
    """
    driver: BoundedConnection | None = session.info.get(_DRIVER)
    if driver is None:
        raw = await (await session.connection()).get_raw_connection()
        driver = session.info[_DRIVER] = cast("BoundedConnection", raw.driver_connection)
    waiting: list[Question] = session.info.pop(_WAITING, [])
    try:
        return (await driver.run(*waiting, *questions))[len(waiting) :]
    except psycopg.Error as error:
        if driver.closed:
            await (await session.connection()).invalidate()
        raise DBAPIError.instance(
            None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=driver.closed
        ) from error


def run_later(session: AsyncSession, question: Question) -> None:
    """Together with the next one that is run, at the latest before the commit. Not for what may be refused, and not
    where part of the transaction may be taken back.
    """
    if not session.in_transaction():
        # Or a rollback would find nothing to take back, and leave it to the next transaction.
        session.sync_session.begin()
    session.info.setdefault(_WAITING, []).append(question)


def offer_company(session: AsyncSession, question: Question) -> None:
    """Something that has to be asked in this transaction in any case, and may be asked together with its revision."""
    session.info[_COMPANY] = question


async def run_with_company(session: AsyncSession, *questions: Question) -> list[list[Row]]:
    """The same as `run`, for what locks as much as what was offered and comes right before it."""
    company: Question | None = session.info.pop(_COMPANY, None)
    if company is None:
        return await run(session, *questions)
    *answers, answer = await run(session, *questions, company)
    session.info[_ANSWER] = (company, answer)
    return answers


async def run_if_new(session: AsyncSession, question: Question) -> list[Row]:
    """The rows of one answer, which may have come with others already."""
    session.info.pop(_COMPANY, None)
    company, answer = session.info.pop(_ANSWER, (None, None))
    if company is not None and (company.sql, company.values) == (question.sql, question.values):
        return cast("list[Row]", answer)
    return (await run(session, question))[0]


@event.listens_for(Session, "before_commit")
def _run_waiting(session: Session) -> None:
    if waiting := session.info.pop(_WAITING, None):
        driver = cast("BoundedConnection", session.connection().connection.driver_connection)
        await_only(driver.run(*waiting))


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    """The next transaction may get another connection, and this one goes to somebody else."""
    session.info.pop(_DRIVER, None)
    if transaction.parent is None:
        for key in (_WAITING, _COMPANY, _ANSWER):
            session.info.pop(key, None)
