"""Queries for custom roles and for who holds them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.roles.tables import Role, UserRole
from control_plane.users.tables import User
from shared.errors import NotFound

Holder = tuple[UserRole, User]


class RoleRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, role_id: UUID, *, for_update: bool = False) -> Role:
        """Raises NotFound. The lock keeps everybody from being given the role until the transaction ends."""
        query = select(Role).where(Role.id == role_id)
        if for_update:
            # The full lock: a new holder's foreign key takes a key-share lock, which a weaker one would let through.
            query = query.with_for_update()
        role = (await self._session.execute(query)).scalar_one_or_none()
        if role is None:
            raise NotFound
        return role

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[Role]:
        """Up to `limit + 1` roles in the order they were made."""
        query = select(Role).order_by(Role.id).limit(limit + 1)
        if after is not None:
            query = query.where(Role.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def holder_ids(self, role_id: UUID) -> Sequence[UUID]:
        return (
            (await self._session.execute(select(UserRole.user_id).where(UserRole.role_id == role_id))).scalars().all()
        )

    async def holders(self, role_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Holder]:
        query = (
            select(UserRole, User)
            .join(User, User.id == UserRole.user_id)
            .where(UserRole.role_id == role_id)
            .order_by(UserRole.id)
            .limit(limit + 1)
        )
        if after is not None:
            query = query.where(UserRole.id > after)
        return (await self._session.execute(query)).all()

    async def add(self, row: Role | UserRole) -> None:
        self._session.add(row)
        await self._session.flush()

    async def remove(self, role: Role) -> None:
        await self._session.delete(role)
        await self._session.flush()

    async def take(self, role_id: UUID, user_id: UUID, org_id: UUID | None) -> bool:
        """Whether the user held it there until now."""
        query = (
            delete(UserRole)
            .where(
                UserRole.role_id == role_id, UserRole.user_id == user_id, UserRole.org_id.is_not_distinct_from(org_id)
            )
            .returning(UserRole.id)
        )
        return (await self._session.execute(query)).first() is not None

    async def take_all(self, user_id: UUID) -> None:
        await self._session.execute(delete(UserRole).where(UserRole.user_id == user_id))
