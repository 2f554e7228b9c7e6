from datetime import date
from typing import Any, Self
from uuid import UUID

import msgspec

from control_plane.usage.repository import Row
from shared.pricing import CURRENCY


class UsageView(msgspec.Struct):
    """What one group of turns used. A dimension that the list is not grouped by is null.

    `messages` counts turns however they ended; grouped by model, those that used the model, and then nobody knows how
    they ended. Of the `calls` of models, `estimated_calls` were not counted by the provider itself. `cached_tokens` are
    among the input tokens. A model that is not known, because the worker of its run was lost, has no name.
    """

    day: date | None
    instance_id: UUID | None
    provider: str | None
    model_name: str | None
    messages: int
    failed: int | None
    cancelled: int | None
    calls: int
    estimated_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(**_known(cls, row))


class CostView(msgspec.Struct):
    """What one group of turns cost, by the prices that held when they began.

    Calls of models without a price are in `unpriced_calls` and not in `cost`.
    """

    day: date | None
    instance_id: UUID | None
    provider: str | None
    model_name: str | None
    messages: int
    calls: int
    unpriced_calls: int
    cost: float
    currency: str

    @classmethod
    def of(cls, row: Row) -> Self:
        return cls(**_known(cls, {**row, "cost": float(row["cost"]), "currency": CURRENCY}))


def _known(view: type[msgspec.Struct], row: Row) -> dict[str, Any]:
    return {name: row.get(name) for name in view.__struct_fields__}
