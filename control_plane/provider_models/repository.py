"""Queries for the model catalogue."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.provider_models.tables import ProviderModel
from shared.errors import NotFound
from shared.frameworks import Provider


class ProviderModelRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, model_id: UUID, *, for_update: bool = False) -> ProviderModel:
        """Raises NotFound."""
        model = await self._session.get(ProviderModel, model_id, with_for_update=for_update or None)
        if model is None:
            raise NotFound
        return model

    async def page(
        self, *, provider: Provider | None = None, only_enabled: bool = False, after: UUID | None, limit: int
    ) -> Sequence[ProviderModel]:
        query = select(ProviderModel).order_by(ProviderModel.id).limit(limit + 1)
        if provider is not None:
            query = query.where(ProviderModel.provider == provider)
        if only_enabled:
            query = query.where(ProviderModel.is_enabled)
        if after is not None:
            query = query.where(ProviderModel.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def add(self, model: ProviderModel) -> None:
        self._session.add(model)
        await self._session.flush()

    async def remove(self, model: ProviderModel) -> None:
        await self._session.delete(model)
        await self._session.flush()
