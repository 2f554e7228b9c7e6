"""The catalogue of models and their prices, which the platform's operator keeps."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.locks import lock_definitions
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.provider_models.repository import ProviderModelRepository
from control_plane.provider_models.schemas import ProviderModelBody, ProviderModelPatch
from control_plane.provider_models.tables import ProviderModel
from shared.frameworks import Provider
from shared.ids import new_id

PRICES = ("input_price", "output_price", "cached_price")
NO_PRICES = (None, None, None)


Repriced = Callable[[Provider, str], Awaitable[None]]
"""Tells whoever uses a model of a provider that its price is another one."""


class ProviderModelService:
    def __init__(self, *, session: AsyncSession, models: ProviderModelRepository, repriced: Repriced) -> None:
        self._session = session
        self._models = models
        self._repriced = repriced

    async def create(self, body: ProviderModelBody) -> ProviderModel:
        """Raises AlreadyExists for a model name the provider has already."""
        await lock_definitions(self._session, None)
        model = ProviderModel(id=new_id(), **_with_decimal_prices(msgspec.structs.asdict(body)))
        with violations({"uq_provider_models_provider_model_name": taken("model_name", "this model of the provider")}):
            await self._models.add(model)
        if _prices(model) != NO_PRICES:
            await self._repriced(body.provider, body.model_name)
        return model

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[ProviderModel]:
        return await self._models.page(after=after, limit=limit)

    async def page_of_provider(self, provider: Provider, *, after: UUID | None, limit: int) -> Sequence[ProviderModel]:
        """The models of a provider that may be chosen."""
        return await self._models.page(provider=provider, only_enabled=True, after=after, limit=limit)

    async def get(self, model_id: UUID) -> ProviderModel:
        """Raises NotFound."""
        return await self._models.get(model_id)

    async def change(self, model_id: UUID, patch: ProviderModelPatch, *, if_match: str | None) -> ProviderModel:
        """Runs that begin from now on cost what the new prices say, and no others. Raises NotFound, StaleRevision."""
        await lock_definitions(self._session, None)
        model = await self._models.get(model_id, for_update=True)
        require_match(if_match, model.revision)
        before = _prices(model)
        apply_patch(model, patch, skip=PRICES)
        for name in PRICES:
            price = getattr(patch, name)
            if price is not msgspec.UNSET:
                setattr(model, name, _decimal(price))
        model.revision = await next_revision(self._session)
        await self._session.flush()
        if _prices(model) != before:
            await self._repriced(Provider(model.provider), model.model_name)
        return model

    async def delete(self, model_id: UUID, *, if_match: str | None) -> None:
        """Raises NotFound, StaleRevision."""
        await lock_definitions(self._session, None)
        model = await self._models.get(model_id, for_update=True)
        require_match(if_match, model.revision)
        await self._models.remove(model)
        if _prices(model) != NO_PRICES:
            await self._repriced(Provider(model.provider), model.model_name)


def _prices(model: ProviderModel) -> tuple[Decimal | None, ...]:
    return tuple(getattr(model, name) for name in PRICES)


def _with_decimal_prices(values: dict[str, object]) -> dict[str, object]:
    return {name: _decimal(value) if name in PRICES else value for name, value in values.items()}


def _decimal(price: object) -> Decimal | None:
    """By way of its shortest text, so that 0.1 is stored as 0.1."""
    return None if price is None else Decimal(str(price))
