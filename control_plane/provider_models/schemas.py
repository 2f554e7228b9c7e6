from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.fields import ShortText
from control_plane.provider_models.tables import ProviderModel
from shared.frameworks import Provider

Price = Annotated[float, Meta(ge=0, le=100_000, description="US dollars per million tokens")]
ContextWindow = Annotated[int, Meta(ge=1, le=100_000_000, description="tokens")]


class ProviderModelBody(msgspec.Struct, forbid_unknown_fields=True):
    """A price of null is unknown, not free."""

    provider: Provider
    model_name: ShortText
    display_name: ShortText | None = None
    context_window: ContextWindow | None = None
    input_price: Price | None = None
    output_price: Price | None = None
    cached_price: Price | None = None
    is_enabled: bool = True


class ProviderModelPatch(msgspec.Struct, forbid_unknown_fields=True):
    display_name: ShortText | UnsetType | None = UNSET
    context_window: ContextWindow | UnsetType | None = UNSET
    input_price: Price | UnsetType | None = UNSET
    output_price: Price | UnsetType | None = UNSET
    cached_price: Price | UnsetType | None = UNSET
    is_enabled: bool | UnsetType = UNSET


class ProviderModelView(msgspec.Struct):
    """Prices are US dollars per million input, output and cached input tokens."""

    id: UUID
    provider: Provider
    model_name: str
    display_name: str | None
    context_window: int | None
    input_price: float | None
    output_price: float | None
    cached_price: float | None
    is_enabled: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, model: ProviderModel) -> Self:
        return cls(
            id=model.id,
            provider=Provider(model.provider),
            model_name=model.model_name,
            display_name=model.display_name,
            context_window=model.context_window,
            input_price=_number(model.input_price),
            output_price=_number(model.output_price),
            cached_price=_number(model.cached_price),
            is_enabled=model.is_enabled,
            created_at=model.created_at,
            updated_at=model.updated_at,
        )


def _number(price: Decimal | None) -> float | None:
    return None if price is None else float(price)
