"""Queries for who users are at the provider."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.single_sign_on.tables import UserIdentity
from control_plane.users.tables import User


class IdentityRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find_user(self, issuer: str, subject: str) -> User | None:
        """A deleted one as well: whoever was deleted here does not come back by logging in there."""
        query = (
            select(User)
            .join(UserIdentity, UserIdentity.user_id == User.id)
            .where(UserIdentity.issuer == issuer, UserIdentity.subject == subject)
        )
        return (await self._session.execute(query)).scalar_one_or_none()

    async def names_like(self, username: str) -> frozenset[str]:
        """Names of living users that begin with this one, in lower case."""
        name = func.lower(User.username)
        query = select(name).where(name.startswith(username.lower(), autoescape=True), User.is_deleted.is_(False))
        return frozenset((await self._session.execute(query)).scalars())

    async def is_email_taken(self, email: str) -> bool:
        query = select(User.id).where(func.lower(User.email) == email.lower(), User.is_deleted.is_(False))
        return (await self._session.execute(query)).first() is not None

    async def add(self, identity: UserIdentity) -> None:
        self._session.add(identity)
        await self._session.flush()
