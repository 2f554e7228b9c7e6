"""Queries for data keys."""

from uuid import UUID

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.data_keys.tables import DataKey
from control_plane.database.direct import run_soon
from control_plane.database.sessions import Soon
from control_plane.database.statements import Statement
from control_plane.organizations.tables import Organization
from shared.errors import NotFound
from shared.snapshots import WrappedDataKey

_HELD = Statement(
    select(DataKey.id, DataKey.wrapped_key)
    .where(DataKey.org_id.is_not_distinct_from(bindparam("owner")))
    .order_by(DataKey.generation)
    .with_for_update(read=True, key_share=True)
)


class DataKeyRepository:
    """Keys of one owner: an organization, or None for the platform."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._expected: dict[UUID | None, Soon] = {}

    def expect(self, owner: UUID | None) -> None:
        """`held` will be asked, and may be with the next statement."""
        self._expected[owner] = run_soon(self._session, _HELD(owner=owner))

    async def held(self, owner: UUID | None) -> list[WrappedDataKey]:
        """The newest last, none of which is deleted until the transaction ends."""
        rows = await (self._expected.pop(owner, None) or run_soon(self._session, _HELD(owner=owner)))
        return [WrappedDataKey(*row) for row in rows]

    async def require_living(self, org_id: UUID) -> None:
        """Keep an organization from being deleted until the transaction ends. Raises NotFound."""
        query = select(Organization.id).where(Organization.id == org_id, Organization.is_deleted.is_(False))
        if (await self._session.execute(query.with_for_update(read=True))).first() is None:
            raise NotFound

    async def add(self, key_id: UUID, owner: UUID | None, generation: int, wrapped_key: str) -> None:
        """Nothing happens when another transaction has made this generation."""
        row = insert(DataKey).values(id=key_id, org_id=owner, generation=generation, wrapped_key=wrapped_key)
        await self._session.execute(row.on_conflict_do_nothing())

    async def remove(self, org_id: UUID) -> None:
        """All of an organization's. Waits for whoever holds one."""
        await self._session.execute(delete(DataKey).where(DataKey.org_id == org_id))
