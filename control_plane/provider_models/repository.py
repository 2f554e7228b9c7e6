"""Queries for the model catalogue."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.provider_models.tables import ProviderModel
from shared.errors import NotFound
from shared.frameworks import SAME_VENDOR, Provider
from shared.pricing import ModelPrice


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

    async def prices(self, models: Collection[tuple[Provider, str]]) -> list[ModelPrice]:
        """Of those of the models that have one. One that may no longer be chosen goes on having its price."""
        vendors = {model: {model[0], SAME_VENDOR.get(model[0], model[0])} for model in models}
        wanted = {(provider, name) for (_, name), providers in vendors.items() for provider in providers}
        query = select(
            ProviderModel.provider,
            ProviderModel.model_name,
            ProviderModel.input_price,
            ProviderModel.output_price,
            ProviderModel.cached_price,
        ).where(
            tuple_(ProviderModel.provider, ProviderModel.model_name).in_(wanted),
            ProviderModel.input_price.is_not(None),
            ProviderModel.output_price.is_not(None),
        )
        found = {(row.provider, row.model_name): row for row in await self._session.execute(query)}
        prices = []
        for provider, name in sorted(models):
            row = found.get((provider, name)) or found.get((SAME_VENDOR.get(provider, provider), name))
            if row is not None:
                prices.append(ModelPrice(provider, name, row.input_price, row.output_price, row.cached_price))
        return prices

    async def add(self, model: ProviderModel) -> None:
        self._session.add(model)
        await self._session.flush()

    async def remove(self, model: ProviderModel) -> None:
        await self._session.delete(model)
        await self._session.flush()
