"""Queries for users."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.users.tables import User
from shared.errors import NotFound


class UserRepository:
    """Living users only: a deleted one is as good as one who never was."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, user_id: UUID, *, for_update: bool = False) -> User:
        """Raises NotFound."""
        query = select(User).where(User.id == user_id, User.is_deleted.is_(False))
        if for_update:
            query = query.with_for_update(key_share=True)
        user = (await self._session.execute(query)).scalar_one_or_none()
        if user is None:
            raise NotFound
        return user

    async def find_by_username(self, username: str) -> User | None:
        """Names differ in more than case, so case does not matter here."""
        query = select(User).where(func.lower(User.username) == username.strip().lower(), User.is_deleted.is_(False))
        return (await self._session.execute(query)).scalar_one_or_none()

    async def has_hash(self, user_id: UUID, password_hash: str) -> bool:
        """Whether the user lives and this is still the hash of their password."""
        query = select(User.id).where(
            User.id == user_id, User.password_hash == password_hash, User.is_deleted.is_(False)
        )
        return (await self._session.execute(query)).first() is not None

    async def replace_hash(self, user_id: UUID, old: str, new: str) -> None:
        """Store another hash of the same password; nothing happens when the password was changed meanwhile."""
        await self._session.execute(
            update(User).where(User.id == user_id, User.password_hash == old).values(password_hash=new)
        )

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[User]:
        """Up to `limit + 1` users in the order they were made."""
        query = select(User).where(User.is_deleted.is_(False)).order_by(User.id).limit(limit + 1)
        if after is not None:
            query = query.where(User.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def lock_sys_admins(self) -> Sequence[UUID]:
        """The living sys_admins, locked, so that two of them cannot remove each other at once."""
        query = (
            select(User.id)
            .where(User.is_sys_admin, User.is_deleted.is_(False))
            .order_by(User.id)
            .with_for_update(key_share=True)
        )
        return (await self._session.execute(query)).scalars().all()

    async def add(self, user: User) -> None:
        self._session.add(user)
        await self._session.flush()
