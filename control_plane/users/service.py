"""Users and what their profile and their end mean for sessions and grants."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.grants import AccessChanges
from control_plane.auth.passwords import Passwords
from control_plane.auth.throttle import LoginThrottle
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.members.service import MemberService
from control_plane.roles.service import RoleService
from control_plane.users.repository import UserRepository
from control_plane.users.schemas import UserPatch
from control_plane.users.tables import User
from shared.errors import Conflict, FieldError, InvalidRequest
from shared.ids import new_id


class UserService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        users: UserRepository,
        members: MemberService,
        roles: RoleService,
        access: AccessChanges,
        passwords: Passwords,
        throttle: LoginThrottle,
    ) -> None:
        self._session = session
        self._users = users
        self._members = members
        self._roles = roles
        self._access = access
        self._passwords = passwords
        self._throttle = throttle

    async def create(
        self,
        *,
        username: str,
        password: str,
        email: str | None = None,
        display_name: str | None = None,
        is_sys_admin: bool = False,
    ) -> User:
        """Raises AlreadyExists for a username or an email that a living user has."""
        user = User(
            id=new_id(),
            username=username,
            email=email,
            display_name=display_name,
            is_sys_admin=is_sys_admin,
            password_hash=await self._passwords.hash(password),
        )
        with _unique():
            await self._users.add(user)
        return user

    async def has_sys_admin(self) -> bool:
        return bool(await self._users.lock_sys_admins())

    async def get(self, user_id: UUID) -> User:
        """Raises NotFound."""
        return await self._users.get(user_id)

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[User]:
        return await self._users.page(after=after, limit=limit)

    async def change(self, user_id: UUID, patch: UserPatch, *, if_match: str | None = None) -> User:
        """An administrator's change. Raises NotFound, StaleRevision, AlreadyExists, Conflict."""
        if patch.is_sys_admin is False:
            await self._keep_a_sys_admin(user_id)
        user = await self._users.get(user_id, for_update=True)
        require_match(if_match, user.revision)
        if patch.password is not UNSET:
            user.password_hash = await self._passwords.hash(patch.password)
            self._access.end_sessions(user_id)
        apply_patch(user, patch, skip={"password"})
        self._access.of_user(user_id)
        return await self._revise(user)

    async def set_sys_admin(self, user_id: UUID, is_sys_admin: bool) -> None:
        """What the identity provider says; the last sys_admin stays one all the same. Raises NotFound."""
        user = await self._users.get(user_id, for_update=True)
        if user.is_sys_admin is is_sys_admin:
            return
        if not is_sys_admin and await self._users.lock_sys_admins() == [user_id]:
            return
        user.is_sys_admin = is_sys_admin
        self._access.of_user(user_id)
        await self._revise(user)

    async def change_profile(
        self,
        user_id: UUID,
        profile: UserPatch,
        *,
        current_password: str | None,
        session_id: str | None,
        address: str,
        if_match: str | None = None,
    ) -> User:
        """The user's own change; a new password needs the current one and ends every other session.

        Raises InvalidRequest, RateLimited, StaleRevision, AlreadyExists.
        """
        user = await self._users.get(user_id, for_update=True)
        require_match(if_match, user.revision)
        if profile.password is not UNSET:
            await self._prove(user, current_password, address)
            user.password_hash = await self._passwords.hash(profile.password)
            self._access.end_sessions(user_id, keep=session_id)
        apply_patch(user, profile, skip={"password", "is_sys_admin"})
        return await self._revise(user)

    async def delete(self, user_id: UUID, *, if_match: str | None = None) -> None:
        """End a user: memberships and sessions go, the row stays for what refers to it. Raises NotFound, LastAdmin."""
        await self._keep_a_sys_admin(user_id)
        # Organizations are locked before users everywhere, or this and a member being added would wait for each other.
        await self._members.remove_everywhere(user_id)
        user = await self._users.get(user_id, for_update=True)
        require_match(if_match, user.revision)
        user.is_deleted = True
        await self._roles.take_all(user_id)
        self._access.of_user(user_id)
        self._access.end_sessions(user_id)
        await self._revise(user)

    async def _prove(self, user: User, password: str | None, address: str) -> None:
        """A stolen session must not become a way to guess the password, so this counts as a login attempt."""
        if password is None:
            raise InvalidRequest(errors=(FieldError("current_password", "missing", "needed to set a new password"),))
        async with self._throttle.attempt(user.username, address) as attempt:
            if not await self._passwords.matches(password, user.password_hash):
                await attempt.failed()
                wrong = FieldError("current_password", "wrong", "this is not the current password")
                raise InvalidRequest(errors=(wrong,))

    async def _keep_a_sys_admin(self, leaving: UUID) -> None:
        if await self._users.lock_sys_admins() == [leaving]:
            raise Conflict("the platform keeps at least one sys_admin")

    async def _revise(self, user: User) -> User:
        with _unique(), self._session.no_autoflush:
            user.revision = await next_revision(self._session)
            await self._session.flush()
        return user


def _unique() -> AbstractContextManager[None]:
    return violations(
        {
            "uq_users_username_living": taken("username", "this username"),
            "uq_users_email_living": taken("email", "this email address"),
        }
    )
