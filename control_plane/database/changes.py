"""What a transaction changes, row by row, with secrets masked."""

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, PassiveFlag, Session
from sqlalchemy.orm.attributes import get_history

from shared.snapshots import SEALED_FIELD

SECRET: dict[str, bool] = {"is_secret": True}
"""`mapped_column(info=SECRET)`: a value that nobody is shown, not even as a hash."""

MASK = "***"
MAX_VALUE_BYTES = 4096
_KEY = "changes"
_TECHNICAL = frozenset({"created_at", "updated_at", "revision"})
_SECRET_NAME = re.compile(r"(key|token|secret|password|passwd|authorization|credentials?)$", re.IGNORECASE)


class RowChange(msgspec.Struct):
    """`before` and `after` hold the columns that differ; a new row has no `before`, one that is gone no `after`.

    A statement about many rows names none of them.
    """

    table: str
    action: str
    id: str | None = None
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}


class ObservedSession(Session):
    """Remembers in `info` what it flushes."""


def take_changes(session: AsyncSession) -> list[RowChange]:
    """What was changed since the transaction began, each row once, and forget it."""
    merged: dict[tuple[str, str], RowChange] = {}
    found: list[RowChange] = []
    for change in session.info.pop(_KEY, []):
        known = merged.get((change.table, change.id)) if change.id else None
        if known is None:
            found.append(change)
            merged[change.table, change.id] = change
            continue
        known.before = {**change.before, **known.before}
        known.after = {**known.after, **change.after}
        if change.action == "delete":
            known.action = "delete"
    return found


def remember(session: AsyncSession, row: Any, action: Literal["insert", "update"]) -> None:
    """The same of a row that is about to be stored without a flush."""
    change = _change_of(row, action)
    if change is not None:
        session.info.setdefault(_KEY, []).append(change)


@event.listens_for(ObservedSession, "before_flush")
def _remember(session: Session, *_: object) -> None:
    changes: list[RowChange] = session.info.setdefault(_KEY, [])
    for action, rows in (("insert", session.new), ("update", session.dirty), ("delete", session.deleted)):
        changes.extend(change for row in rows if (change := _change_of(row, action)) is not None)


@event.listens_for(ObservedSession, "do_orm_execute")
def _remember_statement(state: ORMExecuteState) -> None:
    if state.is_select:
        return
    for action in ("insert", "update", "delete"):
        table = getattr(getattr(state.statement, "table", None), "name", None)
        if getattr(state, f"is_{action}") and table is not None:
            state.session.info.setdefault(_KEY, []).append(RowChange(str(table), action))


def changed_keys(row: Any) -> list[str]:
    """The attributes of a stored row that have another value than is stored."""
    return [key for key in inspect(row).committed_state if _history(row, key).added]


def _change_of(row: Any, action: str) -> RowChange | None:
    state = inspect(row)
    table = _table_of(type(row))
    change = RowChange(table.name, action, ":".join([str(getattr(row, key)) for key in table.identity]))
    if action == "update":
        for key in changed_keys(row):
            if key in table.is_secret:
                history = _history(row, key)
                old = history.deleted[0] if history.deleted else None
                change.before[key] = masked(old, is_secret=table.is_secret[key])
                change.after[key] = masked(history.added[0], is_secret=table.is_secret[key])
        return change if change.after else None
    for key, is_secret in table.is_secret.items():
        if action == "delete":
            unchanged = _history(row, key).unchanged
            change.before[key] = masked(unchanged[0] if unchanged else None, is_secret=is_secret)
        elif key in state.dict:
            change.after[key] = masked(state.dict[key], is_secret=is_secret)
    return change


def _history(row: Any, key: str) -> Any:
    return get_history(row, key, PassiveFlag.PASSIVE_NO_INITIALIZE)


class _Table(msgspec.Struct, frozen=True):
    """`identity` and the keys of `is_secret`, whose columns an entry tells of, are names of attributes."""

    name: str
    identity: tuple[str, ...]
    is_secret: dict[str, bool]


@cache
def _table_of(kind: type[Any]) -> _Table:
    mapper = inspect(kind)
    return _Table(
        name=str(mapper.local_table.name),
        identity=tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key),
        is_secret={
            column.key: bool(column.columns[0].info.get("is_secret"))
            for column in mapper.column_attrs
            if column.key not in _TECHNICAL
        },
    )


def masked(value: Any, *, is_secret: bool = False) -> Any:
    """A column's value as JSON can hold it. What is long is told by its size."""
    if value is None:
        return None
    if is_secret:
        return MASK
    if isinstance(value, bool | int):
        return value
    plain = _plain(value)
    size = len(msgspec.json.encode(plain))
    return f"({size} bytes)" if size > MAX_VALUE_BYTES else plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return MASK if SEALED_FIELD in value else dict(_fields(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _fields(value: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """JSON written by people may hold a secret where no schema says so: its name tells."""
    for name, item in value.items():
        hides = isinstance(item, str) and item and _SECRET_NAME.search(str(name))
        yield str(name), MASK if hides else _plain(item)
