"""Rows that people change often: read and written past the ORM, and yet its objects, so that the audit sees what is
changed of them. For tables with the columns of `Identified`, `Timestamped` and `Revised`.
"""

from functools import lru_cache
from typing import Any, TypeVar, cast
from uuid import UUID

import msgspec
from sqlalchemy import JSON, BigInteger, Select, bindparam, insert, inspect, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value

from control_plane.database.base import Base
from control_plane.database.changes import changed_keys, remember
from control_plane.database.commits import run_last
from control_plane.database.direct import is_flushed, lazy_session, run, run_soon
from control_plane.database.revisions import NEXT, next_revision
from control_plane.database.statements import Question, Row, Statement

T = TypeVar("T", bound=Base)

_STAMPS = ("revision", "updated_at")


@lru_cache
def columns_of(table: type[Base]) -> tuple[Any, ...]:
    """All of them, to be selected for `opened`."""
    return tuple(getattr(table, attribute.key) for attribute in inspect(table).column_attrs)


def opened(session: AsyncSession, table: type[T], values: Row) -> T:
    """The row as a `select` of the session's own would give it, of the values of `columns_of`."""
    lazy = lazy_session(session)
    loaded = dict(zip(_keys_of(table), values, strict=True))
    known = lazy.kept(table, tuple([loaded[key] for key in _identity_keys(table)]))
    if known is not None:
        # Since a rollback it may not be known what they are.
        for key in inspect(known).expired_attributes & loaded.keys():
            set_committed_value(known, key, loaded[key])
        return known
    # As the ORM makes one of a row that it has loaded: nothing of it is a change.
    row: T = inspect(table).class_manager.new_instance()
    vars(row).update(loaded)
    make_transient_to_detached(row)
    return lazy.keep(row)


class Pages:
    """Rows of a table in the order of their ids, out of those that a query has."""

    def __init__(self, table: type[T], query: Select[Any]) -> None:
        by_id: Any = cast("Any", table).id
        page = query.with_only_columns(*columns_of(table)).order_by(by_id).limit(bindparam("at_most", type_=BigInteger))
        self._first = Statement(page)
        self._next = Statement(page.where(by_id > bindparam("after")))

    def question(self, *, after: UUID | None, limit: int, **values: Any) -> Question:
        """One more than `limit`, to tell whether there are more."""
        if after is None:
            return self._first(at_most=limit + 1, **values)
        return self._next(after=after, at_most=limit + 1, **values)


async def revise(session: AsyncSession, row: Base) -> None:
    """Give a row the next revision, as `next_revision`, and store it with everything that is not stored yet. All that
    is changed of a row that was there before is one round trip.

    Raises IntegrityError.
    """
    if inspect(row).has_identity:
        remember(session, row, "update")
        _, [values] = await run(session, NEXT(), _update(session, row))
        vars(row).update(zip(_STAMPS, values, strict=True))
    else:
        # The lock would otherwise begin with a flush of what is not complete yet.
        with session.no_autoflush:
            cast("Any", row).revision = await next_revision(session)
    if not is_flushed(session):
        await session.flush()


async def revise_last(session: AsyncSession, row: Base, *also: Question) -> None:
    """The same for the last row that the transaction changes, which `run_last` then ends unless the row is a new one.
    `also` is asked with the new revision.

    Raises IntegrityError.
    """
    if not inspect(row).has_identity:
        await revise(session, row)
        for question in also:
            run_soon(session, question)
        return
    remember(session, row, "update")
    _, [values], *_ = await run_last(session, NEXT(), _update(session, row), *also)
    vars(row).update(zip(_STAMPS, values, strict=True))


async def store_last(session: AsyncSession, row: Base) -> None:
    """Store a new row that no session knows yet, the last that the transaction changes, which `run_last` then ends.

    Raises IntegrityError.
    """
    remember(session, row, "insert")
    state: Any = inspect(row)
    for key, column in _defaults(type(row)):
        if key not in state.dict:
            setattr(row, key, column.default.arg if column.default.is_scalar else column.default.arg(None))
    given = [key for key in _keys_of(type(row)) if key in state.dict]
    stored, returned = _insertion(type(row), tuple(given))
    [[values]] = await run_last(session, stored(**{key: _written(state, key) for key in given}))
    vars(row).update(zip(returned, values, strict=True))
    make_transient_to_detached(row)
    lazy_session(session).keep(row)


def _update(session: AsyncSession, row: Any) -> Question:
    """What stores it. The session takes that for done: where it fails, so does the transaction."""
    state = inspect(row)
    values = {key: _written(state, key) for key in sorted(changed_keys(row))}
    make_transient(row)
    make_transient_to_detached(row)
    lazy_session(session).keep(row)
    return _statement(type(row), tuple(values))(row_id=row.id, **values)


def _written(state: Any, key: str) -> Any:
    value = state.dict[key]
    if value is not None and isinstance(state.mapper.columns[key].type, JSON):
        return msgspec.json.encode(value).decode()
    return value


@lru_cache(maxsize=256)
def _statement(of: type[Base], changed: tuple[str, ...]) -> Statement:
    table: Any = of
    # The number that was just taken: by this transaction, which holds the lock.
    values: dict[str, Any] = {
        "revision": literal_column("currval('revision_seq')"),
        **{key: bindparam(key) for key in changed},
    }
    stored = update(table).where(table.id == bindparam("row_id")).values(values)
    return Statement(stored.returning(*(getattr(table, name) for name in _STAMPS)))


@lru_cache
def _keys_of(table: type[Base]) -> tuple[str, ...]:
    return tuple(column.key for column in columns_of(table))


@lru_cache
def _identity_keys(table: type[Base]) -> tuple[str, ...]:
    mapper = inspect(table)
    return tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)


@lru_cache
def _defaults(table: type[Base]) -> list[tuple[str, Any]]:
    """The columns whose default is made here, and not by PostgreSQL."""
    columns: Any = inspect(table).columns
    return [(key, column) for key, column in columns.items() if column.default and not column.default.is_sequence]


@lru_cache(maxsize=256)
def _insertion(of: type[Base], given: tuple[str, ...]) -> tuple[Statement, tuple[str, ...]]:
    """The statement, and what it returns: what PostgreSQL makes up, or leaves empty."""
    table: Any = of
    returned = tuple(column.key for column in columns_of(of) if column.key not in given)
    stored = insert(table).values({key: bindparam(key) for key in given})
    return Statement(stored.returning(*(getattr(table, key) for key in returned))), returned
