"""Snapshots and the change feed, read without any lock."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import Integer, bindparam, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from control_plane.central_points.tables import CentralPoint
from control_plane.database.engine import scoped
from control_plane.database.readers import Readers
from control_plane.database.statements import Row, Statement
from control_plane.internal import snapshots
from control_plane.internal.kept_answers import Answer, KeptAnswers
from control_plane.internal.shared_answers import SharedAnswers
from control_plane.orchestrators.tables import Orchestrator
from control_plane.organizations.tables import Organization
from control_plane.settings.repository import SettingsRepository
from shared.retention import OrganizationRetention, RetentionPage
from shared.security.organizations import OrganizationState
from shared.snapshots import CentralPointChange, ChangePage, InstanceChange

T = TypeVar("T", InstanceChange, CentralPointChange)

_COLUMNS = (
    Orchestrator.id.label("instance_id"),
    Orchestrator.org_id,
    Orchestrator.revision,
    Orchestrator.config_hash,
    Orchestrator.status,
    Orchestrator.tier,
    Orchestrator.is_unloaded,
    Orchestrator.is_deleted,
    Orchestrator.updated_at,
)


_POINT_COLUMNS = (
    CentralPoint.id.label("central_id"),
    CentralPoint.org_id,
    CentralPoint.revision,
    CentralPoint.name,
    CentralPoint.instance_id,
    CentralPoint.visibility,
    CentralPoint.requests_per_minute,
    CentralPoint.requests_per_minute_per_address,
    CentralPoint.is_deleted,
)


def _since(columns: Sequence[Any], revision: Any) -> Statement:
    changed = select(*columns).where(revision > bindparam("since")).order_by(revision)
    return Statement(changed.limit(bindparam("at_most", type_=Integer)))


_INSTANCES = _since(_COLUMNS, Orchestrator.revision)
_POINTS = _since(_POINT_COLUMNS, CentralPoint.revision)
_REVISION = Statement(
    select(Orchestrator.revision).where(Orchestrator.id == bindparam("instance_id"), Orchestrator.is_deleted.is_(False))
)


class WorkerFeed:
    """`readers` for what is asked at every change, `engine` for the rest."""

    def __init__(self, readers: Readers, engine: AsyncEngine) -> None:
        self._readers = readers
        # Workers serve every organization.
        engine = scoped(engine, None)
        # One view of the database for all of a snapshot's queries: revision, hash and secrets belong together.
        self._consistent = engine.execution_options(isolation_level="REPEATABLE READ")
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._answers = SharedAnswers()
        self._kept = KeptAnswers()

    async def snapshot(self, instance_id: UUID, at_least: int = 0) -> bytes:
        """An OrchestratorSnapshot as JSON: the newest, or for who names a revision one that is no older than that.

        Raises NotFound for one that never was, is soft-deleted or purged.
        """
        if at_least and (kept := self._kept.find(instance_id, at_least)):
            return kept.body
        ask, suffices = partial(self._snapshot, instance_id), partial(self._suffices, instance_id, at_least)
        answer: Answer = await self._answers.get(("snapshot", instance_id), ask, suffices=suffices)
        return answer.body

    async def _suffices(self, instance_id: UUID, at_least: int, found: Answer) -> bool:
        """Whether one that was put together for another worker does for this one."""
        if at_least:
            return found.revision >= at_least
        rows = await self._readers.read(None, _REVISION(instance_id=instance_id))
        return bool(rows) and found.revision >= rows[0][0]

    async def _snapshot(self, instance_id: UUID) -> Answer:
        rows = await self._readers.read_at_once(None, *snapshots.questions(instance_id))
        snapshot = snapshots.snapshot_of(*rows)
        answer = Answer(snapshot.revision, msgspec.json.encode(snapshot))
        self._kept.keep(instance_id, answer)
        return answer

    async def retention(self, after: UUID | None, limit: int) -> RetentionPage:
        """What living organizations' settings say of how long they keep what was said."""
        query = select(Organization.id).where(Organization.is_deleted.is_(False)).order_by(Organization.id)
        if after is not None:
            query = query.where(Organization.id > after)
        async with AsyncSession(self._consistent) as session:
            ids = (await session.execute(query.limit(limit + 1))).scalars().all()
            cascades = await SettingsRepository(session).cascades(ids[:limit])
        kept = (cascades[org_id].resolve("retention_days").value for org_id in ids[:limit])
        organizations = tuple(
            OrganizationRetention(org_id, None if days is UNSET else days)
            for org_id, days in zip(ids[:limit], kept, strict=True)
        )
        return RetentionPage(organizations, ids[limit - 1] if len(ids) > limit else None)

    async def changes(self, since: int, limit: int) -> ChangePage:
        """What all organizations have with a higher revision, what was deleted included so that workers forget it."""
        return await self._answers.get(("changes", since, limit), partial(self._changes, since, limit))

    async def _changes(self, since: int, limit: int) -> ChangePage:
        asked = {"since": since, "at_most": limit + 1}
        # Of one moment: what commits between two would be skipped in the first by the mark of the second.
        instances, points = await self._readers.read_at_once(None, _INSTANCES(**asked), _POINTS(**asked))
        found: list[InstanceChange | CentralPointChange] = [
            *_read(instances, _COLUMNS, InstanceChange),
            *_read(points, _POINT_COLUMNS, CentralPointChange),
        ]
        found.sort(key=lambda change: change.revision)
        shown = found[:limit]
        return ChangePage(
            changes=tuple(change for change in shown if isinstance(change, InstanceChange)),
            next_since=shown[-1].revision if shown else since,
            has_more=len(found) > limit,
            central_points=tuple(change for change in shown if isinstance(change, CentralPointChange)),
        )

    async def organization(self, org_id: UUID) -> OrganizationState:
        query = select(Organization.status).where(Organization.id == org_id, Organization.is_deleted.is_(False))
        async with self._autocommit.connect() as connection:
            status = (await connection.execute(query)).scalar_one_or_none()
        return OrganizationState(msgspec.convert(status, Literal["active", "suspended"] | None))


def _read(rows: Sequence[Row], columns: Sequence[Any], kind: type[T]) -> list[T]:
    names = [column.key for column in columns]
    return [msgspec.convert(dict(zip(names, row, strict=True)), kind) for row in rows]
