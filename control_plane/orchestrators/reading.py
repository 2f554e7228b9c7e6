"""What callers look at: plain columns, one query, no transaction around it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.database.engine import scoped
from control_plane.database.readers import Readers
from control_plane.database.statements import Statement
from control_plane.orchestrators.tables import Orchestrator, OrchestratorPlugin
from shared.errors import NotFound, OrchestratorDeactivated
from shared.snapshots import InstanceStatus, Tier


class OrchestratorRecord(msgspec.Struct, frozen=True):
    """An instance as it is stored, with the catalogue ids of its plugins in their order."""

    id: UUID
    org_id: UUID
    name: str
    framework_type: str
    mode: str
    status: InstanceStatus
    tier: Tier
    is_unloaded: bool
    whoami: str
    config: dict[str, Any]
    plugin_settings: dict[str, Any]
    config_hash: str
    revision: int
    is_deleted: bool
    created_at: datetime
    updated_at: datetime
    plugin_ids: list[UUID]

    @classmethod
    def of(cls, row: Orchestrator, plugin_ids: Sequence[UUID]) -> "OrchestratorRecord":
        """The same of a row that was just written."""
        columns = {name: getattr(row, name) for name in cls.__struct_fields__ if name != "plugin_ids"}
        return cls(**columns, plugin_ids=list(plugin_ids))


class OrchestratorReader:
    """`engine` is one in autocommit mode, for what is asked seldom."""

    def __init__(self, readers: Readers, engine: AsyncEngine) -> None:
        self._readers = readers
        self._engine = engine

    async def get(self, org_id: UUID, instance_id: UUID) -> OrchestratorRecord:
        """Raises NotFound, OrchestratorDeactivated."""
        rows = await self._readers.read(org_id, _RECORD(org_id=org_id, instance_id=instance_id))
        if not rows:
            raise NotFound
        record = OrchestratorRecord(*rows[0])
        if record.status == "inactive":
            raise OrchestratorDeactivated
        return record

    async def page(
        self, org_id: UUID, *, status: InstanceStatus | None, q: str | None, after: UUID | None, limit: int
    ) -> list[OrchestratorRecord]:
        """Up to `limit + 1` instances in the order they were made; `q` is a part of the name, case aside."""
        query = RECORDS.where(Orchestrator.org_id == org_id).order_by(Orchestrator.id).limit(limit + 1)
        if status is not None:
            query = query.where(Orchestrator.status == status)
        if q:
            query = query.where(Orchestrator.name.icontains(q, autoescape=True))
        if after is not None:
            query = query.where(Orchestrator.id > after)
        return await self._read(org_id, query)

    async def _read(self, org_id: UUID, query: Select[*tuple[Any, ...]]) -> list[OrchestratorRecord]:
        async with scoped(self._engine, org_id).connect() as connection:
            rows = (await connection.execute(query)).all()
        return [OrchestratorRecord(*row) for row in rows]


_PLUGIN_IDS = func.array(
    select(func.coalesce(OrchestratorPlugin.system_plugin_id, OrchestratorPlugin.org_plugin_id))
    .where(OrchestratorPlugin.instance_id == Orchestrator.id)
    .order_by(OrchestratorPlugin.position)
    .scalar_subquery()
)
_COLUMNS = [getattr(Orchestrator, name) for name in OrchestratorRecord.__struct_fields__ if name != "plugin_ids"]
RECORDS = select(*_COLUMNS, _PLUGIN_IDS).where(Orchestrator.is_deleted.is_(False))
"""An OrchestratorRecord from each row."""
_RECORD = Statement(
    RECORDS.where(Orchestrator.org_id == bindparam("org_id"), Orchestrator.id == bindparam("instance_id"))
)
