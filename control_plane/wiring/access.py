"""Organizations, their people, and who may do what."""

from functools import partial

from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api_keys.repository import APIKeyRepository
from control_plane.api_keys.service import APIKeyService
from control_plane.auth.grants import AccessChanges
from control_plane.auth.service import AuthService
from control_plane.members.repository import MemberRepository
from control_plane.members.service import MemberService
from control_plane.organizations.repository import OrganizationRepository
from control_plane.organizations.service import OrganizationService
from control_plane.purges.service import PurgeService
from control_plane.roles.repository import RoleRepository
from control_plane.roles.service import RoleService
from control_plane.single_sign_on.repository import IdentityRepository
from control_plane.single_sign_on.service import SingleSignOn
from control_plane.users.repository import UserRepository
from control_plane.users.service import UserService
from control_plane.wiring.definitions import data_keys, definition_saver
from control_plane.wiring.resources import Resources
from control_plane.wiring.tiers import provide_quota
from shared.errors import NotFound
from shared.limits.use import used_by


def access_changes(session: AsyncSession, resources: Resources) -> AccessChanges:
    return AccessChanges(session, resources.invalidator, resources.sessions)


def provide_api_keys(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> APIKeyService:
    return APIKeyService(
        session=session,
        keys=APIKeyRepository(session),
        users=UserRepository(session),
        grants=resources.grants,
        access=access_changes(session, resources),
        clock=resources.clock,
    )


def provide_auth(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> AuthService:
    return AuthService(
        session=session,
        users=UserRepository(session),
        passwords=resources.passwords,
        throttle=resources.throttle,
        sessions=resources.sessions,
        tokens=resources.tokens,
        token_minutes=resources.settings.security.access_token_minutes,
    )


def provide_members(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> MemberService:
    return MemberService(
        session=session,
        members=MemberRepository(session),
        users=UserRepository(session),
        access=access_changes(session, resources),
        quota=provide_quota(session),
    )


def provide_roles(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> RoleService:
    return RoleService(
        session=session,
        roles=RoleRepository(session),
        users=UserRepository(session),
        members=provide_members(session, resources),
        access=access_changes(session, resources),
    )


def provide_users(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> UserService:
    return UserService(
        session=session,
        users=UserRepository(session),
        members=provide_members(session, resources),
        roles=provide_roles(session, resources),
        access=access_changes(session, resources),
        passwords=resources.passwords,
        throttle=resources.throttle,
    )


def provide_organizations(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> OrganizationService:
    return OrganizationService(
        session=session,
        organizations=OrganizationRepository(session),
        access=access_changes(session, resources),
        retire_instances=definition_saver(session, resources).retire_instances_of,
        shred_keys=data_keys(session, resources).shred,
        limits=resources.limits_invalidator,
        used_by=partial(used_by, resources.redis, seeds=resources.limiter.seeds),
        clock=resources.clock,
        quota=provide_quota(session),
    )


def provide_single_sign_on(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> SingleSignOn:
    if resources.settings.single_sign_on is None:
        raise NotFound
    return SingleSignOn(
        settings=resources.settings.single_sign_on,
        identities=IdentityRepository(session),
        users=provide_users(session, resources),
        members=provide_members(session, resources),
        organizations=provide_organizations(session, resources),
        sessions=resources.sessions,
        token_minutes=resources.settings.security.access_token_minutes,
    )


def provide_purges(session: NamedDependency[AsyncSession]) -> PurgeService:
    return PurgeService(session=session)
