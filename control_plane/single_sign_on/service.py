"""Users who come from an OpenID provider: made when they first log in, and what the provider says of their roles."""

import secrets
from datetime import timedelta

from control_plane.database.violations import violations
from control_plane.members.service import MemberService
from control_plane.organizations.service import OrganizationService
from control_plane.single_sign_on.claims import MAX_NAME, Identity
from control_plane.single_sign_on.repository import IdentityRepository
from control_plane.single_sign_on.tables import UserIdentity
from control_plane.users.service import UserService
from control_plane.users.tables import User
from shared.errors import Conflict, LastAdmin, SingleSignOnRefused
from shared.ids import new_id
from shared.security.sessions import Session, SessionStore
from shared.settings import SingleSignOnSettings

_UNUSABLE_BYTES = 32


class SingleSignOn:
    def __init__(
        self,
        *,
        settings: SingleSignOnSettings,
        identities: IdentityRepository,
        users: UserService,
        members: MemberService,
        organizations: OrganizationService,
        sessions: SessionStore,
        token_minutes: int,
    ) -> None:
        self._settings = settings
        self._identities = identities
        self._users = users
        self._members = members
        self._organizations = organizations
        self._sessions = sessions
        self._lifetime = timedelta(minutes=token_minutes)

    async def log_in(self, identity: Identity, *, address: str, user_agent: str) -> Session:
        """A session for whom the provider vouches. Raises SingleSignOnRefused for a user who was deleted here."""
        user = await self._identities.find_user(self._settings.issuer, identity.subject)
        if user is None:
            user = await self._create(identity)
        if user.is_deleted:
            raise SingleSignOnRefused("this user has no account here any more")
        await self._apply_roles(user, identity)
        return await self._sessions.start(user.id, self._lifetime, address=address, user_agent=user_agent)

    async def _create(self, identity: Identity) -> User:
        """Never an existing user with the same email: that anybody can write into their own profile, and whoever did
        would share an account with its true owner from then on.
        """
        email = identity.email
        if email is not None and await self._identities.is_email_taken(email):
            email = None
        user = await self._users.create(
            username=await self._free_name(identity.username),
            # Nobody knows it, so there is no other way in.
            password=secrets.token_urlsafe(_UNUSABLE_BYTES),
            email=email,
            display_name=identity.display_name,
        )
        row = UserIdentity(issuer=self._settings.issuer, subject=identity.subject, user_id=user.id)
        with violations({"pk_user_identities": Conflict("this user is logging in for the first time elsewhere")}):
            await self._identities.add(row)
        return user

    async def _free_name(self, wanted: str) -> str:
        taken = await self._identities.names_like(wanted)
        if wanted.lower() not in taken:
            return wanted
        return f"{wanted[: MAX_NAME - 7]}-{new_id().hex[-6:]}"

    async def _apply_roles(self, user: User, identity: Identity) -> None:
        """Where a setting names roles, the provider decides at every login; where none does, it is left to us."""
        if identity.domain is not None:
            await self._join(user, identity, identity.domain)
        if self._settings.sys_admin_roles:
            await self._users.set_sys_admin(user.id, bool(self._settings.sys_admin_roles & identity.roles))

    async def _join(self, user: User, identity: Identity, domain: str) -> None:
        organization = await self._organizations.find_by_domain(domain)
        if organization is None:
            return
        is_admin = bool(self._settings.org_admin_roles & identity.roles)
        membership = await self._members.find(organization.id, user.id)
        if membership is None:
            await self._members.admit(organization.id, user.id, is_admin=is_admin)
        elif self._settings.org_admin_roles and membership.is_admin is not is_admin:
            try:
                await self._members.set_admin(organization.id, user.id, is_admin=is_admin)
            except LastAdmin:
                # An organization keeps its last admin, whatever the provider says.
                return
