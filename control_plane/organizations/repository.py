"""Queries for organizations."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.members.tables import Membership
from control_plane.organizations.tables import Organization
from shared.errors import NotFound


class OrganizationRepository:
    """Living organizations only."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, org_id: UUID, *, for_update: bool = False) -> Organization:
        """Raises NotFound."""
        query = select(Organization).where(Organization.id == org_id, Organization.is_deleted.is_(False))
        if for_update:
            query = query.with_for_update(key_share=True)
        organization = (await self._session.execute(query)).scalar_one_or_none()
        if organization is None:
            raise NotFound
        return organization

    async def find_by_domain(self, domain: str) -> Organization | None:
        query = select(Organization).where(Organization.domain == domain, Organization.is_deleted.is_(False))
        return (await self._session.execute(query)).scalar_one_or_none()

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[Organization]:
        """Up to `limit + 1` organizations in the order they were made."""
        query = (
            select(Organization).where(Organization.is_deleted.is_(False)).order_by(Organization.id).limit(limit + 1)
        )
        if after is not None:
            query = query.where(Organization.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def page_of_member(
        self, user_id: UUID, *, only: UUID | None, after: UUID | None, limit: int
    ) -> Sequence[tuple[Organization, bool]]:
        """The organizations a user belongs to, each with whether as an admin."""
        query = (
            select(Organization, Membership.is_admin)
            .join(Membership, Membership.org_id == Organization.id)
            .where(Membership.user_id == user_id, Organization.is_deleted.is_(False))
            .order_by(Organization.id)
            .limit(limit + 1)
        )
        if only is not None:
            query = query.where(Organization.id == only)
        if after is not None:
            query = query.where(Organization.id > after)
        return (await self._session.execute(query)).all()

    async def add(self, organization: Organization) -> None:
        self._session.add(organization)
        await self._session.flush()
