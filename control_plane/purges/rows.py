"""The rows of an organization, whatever table they are in."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, func, literal_column, or_, select

from control_plane.database.engine import Database
from control_plane.database.metadata import metadata
from control_plane.events.tables import OutboxEvent
from control_plane.organizations.tables import Organization
from control_plane.purges.tables import OrganizationPurge

CHUNK = 1000
"""Rows in one statement: few enough that none takes long, whatever else the database has to do."""


async def delete_rows(database: Database, org_id: UUID) -> int:
    """All but the purge itself, tables that refer to others first; how many. Safe to repeat."""
    count = 0
    for table, condition in rows_of(org_id):
        while deleted := await _delete_some(database, table, condition):
            count += deleted
    return count


def rows_of(org_id: UUID) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Each table that holds something of an organization, with what its rows are found by."""
    for table in reversed(metadata.sorted_tables):
        if table.name == OrganizationPurge.__tablename__:
            continue
        if table.name == OutboxEvent.__tablename__:
            # What was published is kept for a while; what was not is of no interest to anybody any more.
            yield table, func.strpos(func.encode(table.c.payload, "escape"), str(org_id)) > 0
        elif (condition := _condition(table, org_id)) is not None:
            yield table, condition


def _condition(table: Table, org_id: UUID) -> ColumnElement[bool] | None:
    if table.name == Organization.__tablename__:
        return table.c.id == org_id
    if "org_id" in table.c:
        return table.c.org_id == org_id
    # One that links two others belongs to whoever has what it links.
    owners = [key for key in table.foreign_keys if "org_id" in key.column.table.c]
    if not owners:
        return None
    return or_(*(key.parent.in_(select(key.column).where(key.column.table.c.org_id == org_id)) for key in owners))


async def _delete_some(database: Database, table: Table, condition: ColumnElement[bool]) -> int:
    place: ColumnElement[Any] = literal_column("ctid")
    some = select(place).select_from(table).where(condition).limit(CHUNK)
    async with database() as session:
        gone = await session.execute(delete(table).where(place.in_(some)))
        await session.commit()
        return int(gone.rowcount)  # type: ignore[attr-defined]  # a DELETE has one
