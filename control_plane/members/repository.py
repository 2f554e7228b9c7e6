"""Queries for the members of one organization."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.members.tables import Membership
from control_plane.organizations.tables import Organization
from control_plane.users.tables import User
from shared.errors import NotFound

MemberRow = tuple[User, Membership]


class MemberRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock_organization(self, org_id: UUID) -> None:
        """One change of an organization's members at a time, so that two admins cannot remove each other at once.

        Raises NotFound.
        """
        query = (
            select(Organization.id)
            .where(Organization.id == org_id, Organization.is_deleted.is_(False))
            .with_for_update(key_share=True)
        )
        if (await self._session.execute(query)).scalar_one_or_none() is None:
            raise NotFound

    async def lock_organizations_of(self, user_id: UUID) -> Sequence[UUID]:
        """The living organizations a user belongs to, locked in one order for everybody."""
        query = (
            select(Organization.id)
            .join(Membership, Membership.org_id == Organization.id)
            .where(Membership.user_id == user_id, Organization.is_deleted.is_(False))
            .order_by(Organization.id)
            .with_for_update(key_share=True, of=Organization)
        )
        return (await self._session.execute(query)).scalars().all()

    async def get(self, org_id: UUID, user_id: UUID) -> MemberRow:
        """Raises NotFound."""
        query = (
            select(User, Membership)
            .join(Membership, Membership.user_id == User.id)
            .where(Membership.org_id == org_id, User.id == user_id, User.is_deleted.is_(False))
        )
        row = (await self._session.execute(query)).one_or_none()
        if row is None:
            raise NotFound
        return row

    async def find(self, org_id: UUID, user_id: UUID) -> Membership | None:
        return await self._session.get(Membership, (user_id, org_id))

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[MemberRow]:
        query = (
            select(User, Membership)
            .join(Membership, Membership.user_id == User.id)
            .where(Membership.org_id == org_id, User.is_deleted.is_(False))
            .order_by(User.id)
            .limit(limit + 1)
        )
        if after is not None:
            query = query.where(User.id > after)
        return (await self._session.execute(query)).all()

    async def other_admins(self, org_id: UUID, user_id: UUID) -> int:
        """How many admins the organization has besides this user."""
        query = (
            select(func.count())
            .select_from(Membership)
            .join(User, User.id == Membership.user_id)
            .where(
                Membership.org_id == org_id,
                Membership.is_admin,
                Membership.user_id != user_id,
                User.is_deleted.is_(False),
            )
        )
        return (await self._session.execute(query)).scalar_one()

    async def add(self, membership: Membership) -> None:
        self._session.add(membership)
        await self._session.flush()

    async def remove(self, membership: Membership) -> None:
        await self._session.delete(membership)
        await self._session.flush()

    async def remove_everywhere(self, user_id: UUID) -> None:
        await self._session.execute(delete(Membership).where(Membership.user_id == user_id))
