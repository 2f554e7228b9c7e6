"""Grants from the truth, and what to do when the truth changes."""

from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from control_plane.database.commits import around_commit
from control_plane.members.tables import Membership
from control_plane.organizations.tables import Organization
from control_plane.users.tables import User
from shared.security.grants import Grant, GrantInvalidator
from shared.security.permissions import Role
from shared.security.sessions import SessionStore


async def load_grant(engine: AsyncEngine, user_id: UUID, org_id: UUID | None) -> Grant:
    """What a user may do, read in one query. An unknown organization gives a grant without a role, to anybody."""
    query = (
        select(User.username, User.is_sys_admin, User.is_deleted, Organization.status, Membership.is_admin)
        .select_from(User)
        .outerjoin(Organization, and_(Organization.id == org_id, Organization.is_deleted.is_(False)))
        .outerjoin(Membership, and_(Membership.user_id == User.id, Membership.org_id == Organization.id))
        .where(User.id == user_id)
    )
    async with engine.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is None or row.is_deleted:
        return Grant(user_id, org_id, "", False, False, None, False, None)
    is_member = row.is_admin is not None
    role: Role | None = None
    if row.is_sys_admin and (org_id is None or row.status is not None):
        role = "sys_admin"
    elif is_member:
        role = "org_admin" if row.is_admin else "user"
    return Grant(
        user_id=user_id,
        org_id=org_id,
        username=row.username,
        is_sys_admin=row.is_sys_admin,
        is_alive=True,
        role=role,
        is_member=is_member,
        org_status=row.status,
    )


class AccessChanges:
    """Makes a change of who may do what count on the very next request, when the session's transaction commits."""

    def __init__(self, session: AsyncSession, invalidator: GrantInvalidator, sessions: SessionStore) -> None:
        self._session = session
        self._invalidator = invalidator
        self._sessions = sessions

    def of_user(self, user_id: UUID) -> None:
        """The user's memberships or roles change."""
        around_commit(self._session, lambda: self._invalidator.user_changed(user_id))

    def of_organization(self, org_id: UUID) -> None:
        """The organization is suspended, activated or deleted."""
        around_commit(self._session, lambda: self._invalidator.organization_changed(org_id))

    def end_sessions(self, user_id: UUID, *, keep: str | None = None) -> None:
        """Log the user out everywhere, except in the session `keep`."""
        around_commit(self._session, lambda: self._sessions.end_all(user_id, keep=keep))
