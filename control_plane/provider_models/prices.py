"""What the models of one instance cost."""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Select, select

from control_plane.database.statements import Row
from control_plane.provider_models.tables import ProviderModel
from shared.frameworks import SAME_VENDOR, Provider
from shared.pricing import ModelPrice


def priced_models() -> Select[*tuple[Any, ...]]:
    """Those that have a price, as `prices_of` reads them. One that may no longer be chosen goes on having its price."""
    return select(
        ProviderModel.provider,
        ProviderModel.model_name,
        ProviderModel.input_price,
        ProviderModel.output_price,
        ProviderModel.cached_price,
    ).where(ProviderModel.input_price.is_not(None), ProviderModel.output_price.is_not(None))


def prices_of(models: Collection[tuple[Provider, str]], rows: Iterable[Row]) -> list[ModelPrice]:
    """Of those of the models that are among the rows, under their provider or under the one of the same vendor."""
    found = {(provider, name): prices for provider, name, *prices in rows}
    prices = []
    for provider, name in sorted(models):
        price = found.get((provider, name)) or found.get((SAME_VENDOR.get(provider, provider), name))
        if price is not None:
            prices.append(ModelPrice(provider, name, *price))
    return prices
