from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.central_points.tables import CentralPoint
from control_plane.fields import LongText, Name
from shared.snapshots import Visibility

PerMinute = Annotated[int, Meta(ge=1, le=100_000)]
REQUESTS_PER_MINUTE = 60
REQUESTS_PER_MINUTE_PER_ADDRESS = 10


class CentralPointBody(msgspec.Struct, forbid_unknown_fields=True):
    """The limits are for callers without a session, whom only a `public` one answers."""

    name: Name
    instance_id: UUID
    description: LongText = ""
    visibility: Visibility = "private"
    requests_per_minute: PerMinute = REQUESTS_PER_MINUTE
    requests_per_minute_per_address: PerMinute = REQUESTS_PER_MINUTE_PER_ADDRESS


class CentralPointPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Another `instance_id` swaps the orchestrator behind it; runs that are going on finish where they began."""

    name: Name | UnsetType = UNSET
    instance_id: UUID | UnsetType = UNSET
    description: LongText | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    requests_per_minute: PerMinute | UnsetType = UNSET
    requests_per_minute_per_address: PerMinute | UnsetType = UNSET


class CentralPointView(msgspec.Struct):
    """`central_id` is what callers address, for as long as it exists."""

    central_id: UUID
    org_id: UUID
    name: str
    description: str
    instance_id: UUID
    visibility: Visibility
    requests_per_minute: int
    requests_per_minute_per_address: int
    revision: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, point: CentralPoint) -> Self:
        names = [name for name in cls.__struct_fields__ if name != "central_id"]
        return cls(central_id=point.id, **{name: getattr(point, name) for name in names})
