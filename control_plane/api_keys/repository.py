"""Queries for API keys. Those of one user are asked for with the user's id, so that nobody's else can be meant."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api_keys.tables import APIKey
from shared.errors import NotFound


class APIKeyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, key_id: UUID, *, user_id: UUID | None) -> APIKey:
        """A key of this user, or for None of anybody; locked. Raises NotFound."""
        query = select(APIKey).where(APIKey.id == key_id).with_for_update()
        if user_id is not None:
            query = query.where(APIKey.user_id == user_id)
        key = (await self._session.execute(query)).scalar_one_or_none()
        if key is None:
            raise NotFound
        return key

    async def page(self, *, user_id: UUID | None, after: UUID | None, limit: int) -> Sequence[APIKey]:
        query = select(APIKey).order_by(APIKey.id).limit(limit + 1)
        if user_id is not None:
            query = query.where(APIKey.user_id == user_id)
        if after is not None:
            query = query.where(APIKey.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def count(self, user_id: UUID) -> int:
        query = select(func.count()).select_from(APIKey).where(APIKey.user_id == user_id)
        return (await self._session.execute(query)).scalar_one()

    async def add(self, key: APIKey) -> None:
        self._session.add(key)
        await self._session.flush()

    async def remove(self, key: APIKey) -> None:
        await self._session.delete(key)
        await self._session.flush()
