"""Grants from the truth, and what to do when the truth changes."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from control_plane.database.commits import around_commit
from control_plane.members.tables import Membership
from control_plane.organizations.tables import Organization
from control_plane.roles.tables import RolePermission, UserRole
from control_plane.users.tables import User
from shared.security.grants import Grant, GrantInvalidator
from shared.security.permissions import (
    EVERYBODYS_PERMISSIONS,
    MEMBER_PERMISSIONS,
    ORG_ADMIN_PERMISSIONS,
    SYS_ADMIN_PERMISSIONS,
    Permission,
    Role,
)
from shared.security.sessions import SessionStore


async def load_grant(engine: AsyncEngine, user_id: UUID, org_id: UUID | None) -> Grant:
    """What a user may do: the one place where it is computed, in one query.

    An unknown organization gives a grant without a role, to anybody.
    """
    here = UserRole.org_id.is_(None) if org_id is None else or_(UserRole.org_id.is_(None), UserRole.org_id == org_id)
    custom = (
        select(func.array_agg(RolePermission.permission))
        .join(UserRole, UserRole.role_id == RolePermission.role_id)
        .where(UserRole.user_id == user_id, here)
        .scalar_subquery()
    )
    query = (
        select(
            User.username,
            User.is_sys_admin,
            User.is_deleted,
            Organization.status,
            Membership.is_admin,
            custom.label("custom"),
        )
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
    custom_permissions = known_permissions(frozenset(row.custom or ()))
    is_sys_admin = row.is_sys_admin or Permission.SYSTEM_ADMIN in custom_permissions
    role: Role | None = None
    if is_sys_admin and (org_id is None or row.status is not None):
        role = "sys_admin"
    elif is_member:
        role = "org_admin" if row.is_admin else "user"
    return Grant(
        user_id=user_id,
        org_id=org_id,
        username=row.username,
        is_sys_admin=is_sys_admin,
        is_alive=True,
        role=role,
        is_member=is_member,
        org_status=row.status,
        custom=tuple(sorted(custom_permissions)),
    )


def known_permissions(names: Collection[str]) -> frozenset[Permission]:
    """Those that this version knows: one that was given up must not break everybody whose role still holds it."""
    return frozenset(permission for permission in Permission if permission.value in names)


async def load_reach(session: AsyncSession, user_id: UUID) -> frozenset[Permission]:
    """Everything a user may do anywhere: in the system, in their organizations, by any of their roles."""
    custom = (
        select(func.array_agg(RolePermission.permission))
        .join(UserRole, UserRole.role_id == RolePermission.role_id)
        .where(UserRole.user_id == user_id)
        .scalar_subquery()
    )
    is_admin = select(func.bool_or(Membership.is_admin)).where(Membership.user_id == user_id).scalar_subquery()
    query = select(User.is_sys_admin, is_admin, custom).where(User.id == user_id, User.is_deleted.is_(False))
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return frozenset()
    is_sys_admin, is_admin_somewhere, names = row
    held = known_permissions(frozenset(names or ()))
    if is_sys_admin or Permission.SYSTEM_ADMIN in held:
        return SYS_ADMIN_PERMISSIONS
    if is_admin_somewhere is not None:
        held |= ORG_ADMIN_PERMISSIONS if is_admin_somewhere else MEMBER_PERMISSIONS
    return held | EVERYBODYS_PERMISSIONS


class AccessChanges:
    """Makes a change of who may do what count on the very next request, when the session's transaction commits."""

    def __init__(self, session: AsyncSession, invalidator: GrantInvalidator, sessions: SessionStore) -> None:
        self._session = session
        self._invalidator = invalidator
        self._sessions = sessions

    def of_user(self, user_id: UUID) -> None:
        """The user's memberships, roles or API keys change."""
        around_commit(self._session, lambda: self._invalidator.user_changed(user_id))

    def of_users(self, user_ids: Collection[UUID]) -> None:
        """The same of everybody who holds a role."""
        if user_ids:
            around_commit(self._session, lambda: self._invalidator.users_changed(user_ids))

    def of_organization(self, org_id: UUID) -> None:
        """The organization is suspended, activated or deleted."""
        around_commit(self._session, lambda: self._invalidator.organization_changed(org_id))

    def end_sessions(self, user_id: UUID, *, keep: str | None = None) -> None:
        """Log the user out everywhere, except in the session `keep`."""
        around_commit(self._session, lambda: self._sessions.end_all(user_id, keep=keep))
