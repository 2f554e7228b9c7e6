"""What flows of an organization, outside of any request: its limits, and how much of them is used."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.organizations.tables import Organization
from control_plane.tiers.tables import Tier
from shared.errors import NotFound
from shared.limits import OrganizationLimits, micros

_LIMITS = tuple(name for name in OrganizationLimits.__struct_fields__ if name != "budget_micros")


async def load_limits(engine: AsyncEngine, org_id: UUID) -> OrganizationLimits:
    """In one query. Raises NotFound."""
    query = (
        select(Organization.budget_per_month, *(getattr(Tier, name) for name in _LIMITS))
        .join(Tier, Organization.tier == Tier.name)
        .where(Organization.id == org_id, Organization.is_deleted.is_(False))
    )
    async with engine.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound
    limits = {name: getattr(row, name) for name in _LIMITS}
    return OrganizationLimits(**limits, budget_micros=micros(row.budget_per_month))
