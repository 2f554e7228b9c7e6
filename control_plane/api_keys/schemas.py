from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.api_keys.tables import APIKey
from control_plane.auth.grants import known_permissions
from control_plane.fields import Name
from control_plane.tiers.schemas import Budget, dollars
from shared.security.permissions import Permission

MAX_OVERLAP_SECONDS = 7 * 24 * 3600
Scopes = Annotated[list[Permission], Meta(min_length=1, max_length=100)]
Moment = Annotated[datetime, Meta(tz=True)]


class APIKeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """`org_id` holds the key to one organization; without `expires_at` it lives until it is revoked.

    `scopes` are what it may do at most: whatever the owner cannot do at the time of a call, the key cannot do either.
    `budget_per_month` is what the runs begun with it may cost.
    """

    name: Name
    scopes: Scopes
    org_id: UUID | None = None
    expires_at: Moment | None = None
    budget_per_month: Budget | None = None


class UserAPIKeyBody(APIKeyBody, forbid_unknown_fields=True, kw_only=True):
    user_id: UUID


class APIKeyPatch(msgspec.Struct, forbid_unknown_fields=True):
    """null takes the budget away."""

    name: Name | UnsetType = UNSET
    budget_per_month: Budget | UnsetType | None = UNSET


class RotationBody(msgspec.Struct, forbid_unknown_fields=True):
    """For `overlap_seconds` the old key works beside the new one, unless it expires earlier."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_SECONDS)] = 24 * 3600


class APIKeyView(msgspec.Struct):
    """`hint` is how the key ends; `last_used_at` is up to a minute behind."""

    id: UUID
    user_id: UUID
    org_id: UUID | None
    name: str
    hint: str
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    budget_per_month: float | None = None

    @classmethod
    def of(cls, key: APIKey) -> Self:
        fields = {
            name: getattr(key, name)
            for name in APIKeyView.__struct_fields__
            if name not in ("scopes", "budget_per_month")
        }
        return cls(
            budget_per_month=dollars(key.budget_per_month),
            scopes=sorted(known_permissions(frozenset(key.scopes))),
            **fields,
        )


class NewAPIKeyView(msgspec.Struct):
    """`key` is shown this once. It goes into the header `X-API-KEY`, or into an OpenAI client as its key."""

    key: str
    api_key: APIKeyView
