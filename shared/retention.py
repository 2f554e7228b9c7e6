"""How long an organization keeps what was said: a setting, and how workers learn of it."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta


class RetentionSettings(msgspec.Struct, frozen=True):
    """`retention_days` None keeps everything until somebody deletes it."""

    retention_days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class OrganizationRetention(msgspec.Struct, frozen=True):
    org_id: UUID
    retention_days: int | None


class RetentionPage(msgspec.Struct, frozen=True):
    """Living organizations in the order of their ids. Ask again with `next_after` unless it is None."""

    organizations: tuple[OrganizationRetention, ...]
    next_after: UUID | None = None
