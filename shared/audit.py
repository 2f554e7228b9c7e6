"""What was changed where there is no PostgreSQL, on its way to the audit log."""

from datetime import datetime
from uuid import UUID

import msgspec


class ToldChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what to which resource of an organization, or was refused it with a status."""

    org_id: UUID
    at: datetime
    actor_id: UUID
    actor: str
    api_key_id: UUID | None
    address: str
    request_id: str
    method: str
    route: str
    resource: str
    refused_with: int | None = None
