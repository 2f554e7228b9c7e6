"""Who belongs to an organization. Every change counts on the member's very next request."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.grants import AccessChanges
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.members.repository import MemberRepository, MemberRow
from control_plane.members.tables import Membership
from control_plane.tiers.quota import Quota
from control_plane.users.repository import UserRepository
from shared.errors import LastAdmin
from shared.security.grants import Grant
from shared.security.permissions import ORG_ADMIN_PERMISSIONS


class MemberService:
    """`by` is what the caller may do in the organization: who is admin there is for its admins to say, and a role
    that merely looks after members is not enough.
    """

    def __init__(
        self,
        *,
        session: AsyncSession,
        members: MemberRepository,
        users: UserRepository,
        access: AccessChanges,
        quota: Quota,
    ) -> None:
        self._session = session
        self._members = members
        self._users = users
        self._access = access
        self._quota = quota

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[MemberRow]:
        return await self._members.page(org_id, after=after, limit=limit)

    async def get(self, org_id: UUID, user_id: UUID) -> MemberRow:
        """Raises NotFound."""
        return await self._members.get(org_id, user_id)

    async def add(self, org_id: UUID, user_id: UUID, *, is_admin: bool, by: Grant) -> Membership:
        """Raises NotFound (unknown user or organization), AlreadyExists (a member), QuotaReached, PermissionMissing."""
        if is_admin:
            by.require_all(ORG_ADMIN_PERMISSIONS)
        return await self.admit(org_id, user_id, is_admin=is_admin)

    async def find(self, org_id: UUID, user_id: UUID) -> Membership | None:
        return await self._members.find(org_id, user_id)

    async def admit(self, org_id: UUID, user_id: UUID, *, is_admin: bool) -> Membership:
        """What `add` does, on nobody's behalf. Raises NotFound, AlreadyExists, QuotaReached."""
        await self._members.lock_organization(org_id)
        # Locked as well: a user being deleted right now must not be left with a membership.
        await self._users.get(user_id, for_update=True)
        if await self._members.find(org_id, user_id) is None:
            await self._quota.check("members", org_id)
        membership = Membership(org_id=org_id, user_id=user_id, is_admin=is_admin)
        with violations({"pk_user_org_memberships": taken("user_id", "a place for this user in the organization")}):
            await self._members.add(membership)
        self._access.of_user(user_id)
        return membership

    async def change(
        self, org_id: UUID, user_id: UUID, *, is_admin: bool, by: Grant, if_match: str | None
    ) -> MemberRow:
        """Raises NotFound, StaleRevision, LastAdmin, PermissionMissing."""
        await self._members.lock_organization(org_id)
        user, membership = await self._members.get(org_id, user_id)
        require_match(if_match, membership.revision)
        if membership.is_admin is not is_admin:
            by.require_all(ORG_ADMIN_PERMISSIONS)
        await self._set_admin(membership, is_admin=is_admin)
        return user, membership

    async def set_admin(self, org_id: UUID, user_id: UUID, *, is_admin: bool) -> None:
        """What `change` does, on nobody's behalf. Raises NotFound, LastAdmin."""
        await self._members.lock_organization(org_id)
        _, membership = await self._members.get(org_id, user_id)
        await self._set_admin(membership, is_admin=is_admin)

    async def _set_admin(self, membership: Membership, *, is_admin: bool) -> None:
        if membership.is_admin and not is_admin:
            await self._keep_an_admin(membership.org_id, membership.user_id)
        membership.is_admin = is_admin
        with self._session.no_autoflush:
            membership.revision = await next_revision(self._session)
        await self._session.flush()
        self._access.of_user(membership.user_id)

    async def remove(self, org_id: UUID, user_id: UUID, *, by: Grant, if_match: str | None) -> None:
        """Raises NotFound, StaleRevision, LastAdmin, PermissionMissing."""
        await self._members.lock_organization(org_id)
        _, membership = await self._members.get(org_id, user_id)
        require_match(if_match, membership.revision)
        if membership.is_admin:
            by.require_all(ORG_ADMIN_PERMISSIONS)
            await self._keep_an_admin(org_id, user_id)
        await self._members.remove(membership)
        self._access.of_user(user_id)

    async def remove_everywhere(self, user_id: UUID) -> None:
        """Take a user who is being deleted out of every organization. Raises LastAdmin."""
        for org_id in await self._members.lock_organizations_of(user_id):
            _, membership = await self._members.get(org_id, user_id)
            if membership.is_admin:
                await self._keep_an_admin(org_id, user_id)
        await self._members.remove_everywhere(user_id)

    async def _keep_an_admin(self, org_id: UUID, leaving: UUID) -> None:
        if not await self._members.other_admins(org_id, leaving):
            raise LastAdmin(f"this is the last admin of organization {org_id}; make somebody else admin first")
