"""Queries for the two catalogues. `owner` is the organization whose plugin it is, None for the system."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.orchestrators.tables import Orchestrator, OrchestratorPlugin
from control_plane.plugins.catalogue import CatalogueRow, version_order
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from shared.errors import PluginNotFound

_PID_LOCKS = 0x0CADE4D3
_LOCK_PID = text("SELECT pg_advisory_xact_lock(:space, hashtext(:pid))")


class PluginFilter(msgspec.Struct, frozen=True):
    """`q` is looked for in name, pid and description, whatever the case."""

    tag: str | None = None
    pid: str | None = None
    q: str | None = None


class PluginRepository:
    """What an organization sees is its own rows and the system's; nobody sees another organization's."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, org_id: UUID | None, plugin_id: UUID) -> CatalogueRow:
        """A row the organization sees; without one, a system row. Raises PluginNotFound."""
        for query in _visible(org_id):
            if found := await self._first(query.where(_id(query) == plugin_id)):
                return found
        raise PluginNotFound

    async def get_own(self, owner: UUID | None, plugin_id: UUID) -> CatalogueRow:
        """A row of the owner's, locked: no instance can adopt it until the transaction ends. Raises PluginNotFound."""
        query = _own(owner)
        row = await self._first(query.where(_id(query) == plugin_id).with_for_update())
        if row is None:
            raise PluginNotFound
        return row

    async def page(
        self, org_id: UUID | None, wanted: PluginFilter, *, after: UUID | None, limit: int
    ) -> Sequence[CatalogueRow]:
        """Up to `limit + 1` rows in id order, of both catalogues as one."""
        rows: list[CatalogueRow] = []
        for query in _visible(org_id):
            table = query.column_descriptions[0]["entity"]
            filtered = query.where(*_conditions(table, wanted)).order_by(table.id).limit(limit + 1)
            if after is not None:
                filtered = filtered.where(table.id > after)
            rows.extend((await self._session.execute(filtered)).scalars())
        return sorted(rows, key=lambda row: row.id)[: limit + 1]

    async def versions(self, org_id: UUID | None, pid: str) -> list[CatalogueRow]:
        """Every version of a pid that the organization sees, highest first."""
        rows: list[CatalogueRow] = []
        for query in _visible(org_id):
            table = query.column_descriptions[0]["entity"]
            rows.extend((await self._session.execute(query.where(table.pid == pid))).scalars())
        return sorted(rows, key=lambda row: version_order(row.version), reverse=True)

    async def own_versions(self, owner: UUID | None, pid: str) -> list[CatalogueRow]:
        query = _own(owner)
        table = query.column_descriptions[0]["entity"]
        return list((await self._session.execute(query.where(table.pid == pid))).scalars())

    async def is_system_pid(self, pid: str) -> bool:
        """Whether the system catalogue has it, whatever the case: the two must not be mistaken for each other."""
        query = select(SystemPlugin.id).where(SystemPlugin.pid.ilike(pid.replace("_", r"\_"))).limit(1)
        return (await self._session.execute(query)).first() is not None

    async def candidates(self, org_id: UUID, ids: Collection[UUID], pids: Collection[str]) -> Sequence[CatalogueRow]:
        """Rows with one of the ids or pids, kept from being deleted until the transaction ends."""
        rows: list[CatalogueRow] = []
        for query in _visible(org_id):
            table = query.column_descriptions[0]["entity"]
            wanted = query.where(or_(table.id.in_(ids), table.pid.in_(pids))).order_by(table.id)
            rows.extend((await self._session.execute(wanted.with_for_update(read=True, key_share=True))).scalars())
        return rows

    async def used_by(self, row: CatalogueRow) -> Sequence[str]:
        """The names of the orchestrators that use a row, deactivated and deleted ones included: they refer to it."""
        is_org = isinstance(row, OrgPlugin)
        column = OrchestratorPlugin.org_plugin_id if is_org else OrchestratorPlugin.system_plugin_id
        query = (
            select(Orchestrator.name)
            .join(OrchestratorPlugin, OrchestratorPlugin.instance_id == Orchestrator.id)
            .where(column == row.id)
            .order_by(Orchestrator.name)
        )
        return (await self._session.execute(query)).scalars().all()

    async def lock_pid(self, owner: UUID | None, pid: str) -> None:
        """One upload or deletion at a time for a plugin, until the transaction ends. Take it before any row lock."""
        await self._session.execute(_LOCK_PID, {"space": _PID_LOCKS, "pid": f"{owner or 'system'}/{pid.casefold()}"})

    async def add(self, row: CatalogueRow) -> None:
        self._session.add(row)
        await self._session.flush()
        await self.mark_latest(row)

    async def delete(self, row: CatalogueRow) -> None:
        await self._session.delete(row)
        await self._session.flush()
        await self.mark_latest(row)

    async def mark_latest(self, changed: CatalogueRow) -> None:
        """Make the highest version of a pid its latest, and no other."""
        owner = changed.org_id if isinstance(changed, OrgPlugin) else None
        rows = await self.own_versions(owner, changed.pid)
        if not rows:
            return
        table: Any = type(changed)
        latest = max(rows, key=lambda row: version_order(row.version))
        same_pid = [row.id for row in rows]
        # In two steps: the unique index over latest ones is checked row by row.
        for condition, value in ((table.id != latest.id, False), (table.id == latest.id, True)):
            await self._session.execute(update(table).where(table.id.in_(same_pid), condition).values(is_latest=value))
        for row in rows:
            await self._session.refresh(row, ["is_latest"])

    async def flush(self) -> None:
        await self._session.flush()

    async def _first(self, query: "Select[Any]") -> CatalogueRow | None:
        row: CatalogueRow | None = (await self._session.execute(query)).scalar_one_or_none()
        return row


def _own(owner: UUID | None) -> "Select[Any]":
    return select(SystemPlugin) if owner is None else select(OrgPlugin).where(OrgPlugin.org_id == owner)


def _visible(org_id: UUID | None) -> "list[Select[Any]]":
    return [_own(org_id), _own(None)] if org_id is not None else [_own(None)]


def _id(query: "Select[Any]") -> Any:
    return query.column_descriptions[0]["entity"].id


def _conditions(table: Any, wanted: PluginFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.tag is not None:
        conditions.append(table.tag == wanted.tag)
    if wanted.pid is not None:
        conditions.append(table.pid == wanted.pid)
    if wanted.q:
        columns = (table.name, table.pid, table.description)
        conditions.append(or_(*(column.icontains(wanted.q, autoescape=True) for column in columns)))
    return conditions
