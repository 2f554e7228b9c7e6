"""Sums of what runs used, grouped as a caller wants them."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, Subquery, cast, func, literal, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import BigInteger, Date, Numeric, Text, TypeEngine

from control_plane.usage.tables import DailyMessages, DailyUsage

Dimension = Literal["day", "instance", "model"]
Row = Mapping[Any, Any]
"""Values by the names of columns."""

_COLUMNS: Mapping[Dimension, tuple[str, ...]] = {
    "day": ("day",),
    "instance": ("instance_id",),
    "model": ("provider", "model_name"),
}
_TYPES: Mapping[str, TypeEngine[Any]] = {
    "day": Date(),
    "instance_id": PG_UUID(as_uuid=True),
    "provider": Text(),
    "model_name": Text(),
}
_OF_MODELS = ("calls", "estimated_calls", "unpriced_calls", "input_tokens", "output_tokens", "cached_tokens", "cost")
_OF_TURNS = ("messages", "failed", "cancelled")


class UsageFilter(msgspec.Struct, frozen=True):
    """Days of UTC, both included, and the dimensions to tell apart."""

    first: date
    last: date
    dimensions: frozenset[Dimension]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the groups are told apart by, in the order they come in."""
        return tuple(name for dimension, names in _COLUMNS.items() if dimension in self.dimensions for name in names)


class UsageRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def groups(
        self, org_id: UUID, wanted: UsageFilter, *, after: Sequence[str] | None, limit: int
    ) -> Sequence[Row]:
        """Up to `limit + 1` groups of an organization, in the order of what they are told apart by; `after` is the last
        one of the page before."""
        sums = _by_model(org_id, wanted) if "model" in wanted.dimensions else _by_turn(org_id, wanted)
        names = wanted.columns
        query = select(sums).limit(limit + 1)
        if names:
            columns = [_plain(sums.c[name]) for name in names]
            query = query.order_by(*columns)
            if after is not None:
                last = [cast(literal(value), _TYPES[name]) for name, value in zip(names, after, strict=True)]
                query = query.where(tuple_(*columns) > tuple_(*last))
        return [row for row in (await self._session.execute(query)).mappings().all() if row["messages"] is not None]


def _by_model(org_id: UUID, wanted: UsageFilter) -> Subquery:
    dimensions = [getattr(DailyUsage, name) for name in wanted.columns]
    sums = [_sum(name, getattr(DailyUsage, name)) for name in ("messages", *_OF_MODELS)]
    return _rows(DailyUsage, org_id, wanted, *dimensions, *sums).group_by(*dimensions).subquery()


def _by_turn(org_id: UUID, wanted: UsageFilter) -> Subquery:
    """Turns are counted apart from their calls: one that asked two models is one message all the same."""
    calls = [getattr(DailyUsage, name) for name in _OF_MODELS]
    turns = [getattr(DailyMessages, name) for name in _OF_TURNS]
    no_turns = [cast(literal(0), BigInteger()).label(name) for name in _OF_TURNS]
    no_calls = [cast(literal(0), Numeric()).label(name) for name in _OF_MODELS]
    both = union_all(
        _rows(DailyUsage, org_id, wanted, DailyUsage.day, DailyUsage.instance_id, *no_turns, *calls),
        _rows(DailyMessages, org_id, wanted, DailyMessages.day, DailyMessages.instance_id, *turns, *no_calls),
    ).subquery()
    columns = [both.c[name] for name in wanted.columns]
    sums = [_sum(name, both.c[name]) for name in (*_OF_TURNS, *_OF_MODELS)]
    return select(*columns, *sums).group_by(*columns).subquery()


def _sum(name: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """PostgreSQL adds whole numbers up to one that might not be."""
    total: ColumnElement[Any] = func.sum(column)
    return (total if name == "cost" else cast(total, BigInteger())).label(name)


def _rows(table: type[DailyUsage | DailyMessages], org_id: UUID, wanted: UsageFilter, *columns: Any) -> Select[Any]:
    return select(*columns).where(table.org_id == org_id, table.day.between(wanted.first, wanted.last))


def _plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """In one order whatever the database's language, so that pages neither repeat nor skip."""
    return column.collate("C") if isinstance(column.type, Text) or column.type.python_type is str else column
