from datetime import datetime
from typing import Literal, Self
from uuid import UUID

import msgspec

from control_plane.purges.tables import OrganizationPurge

PurgeState = Literal["conversations", "everything_else"]


class PurgeView(msgspec.Struct):
    """What is being removed now: conversations, which are the workers', or the rest."""

    org_id: UUID
    state: PurgeState
    requested_at: datetime

    @classmethod
    def of(cls, purge: OrganizationPurge) -> Self:
        return cls(purge.org_id, "everything_else" if purge.is_dropped else "conversations", purge.created_at)
