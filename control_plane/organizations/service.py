"""Tenants: their profile, their status and their end."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from uuid import UUID
from zoneinfo import available_timezones

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.auth.grants import AccessChanges
from control_plane.database.commits import around_commit
from control_plane.database.locks import lock_definitions
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.organizations.repository import OrganizationRepository
from control_plane.organizations.schemas import MoneyView, OrganizationBody, OrganizationPatch, ProfilePatch, QuotaView
from control_plane.organizations.tables import Organization
from control_plane.tiers.quota import Quota
from control_plane.tiers.schemas import TierName, UsageView, as_decimal, dollars
from shared.clock import Clock
from shared.errors import FieldError, InvalidRequest
from shared.ids import new_id
from shared.limits import MICROS, Used
from shared.limits.limiter import LimitsInvalidator
from shared.security.permissions import Role

RetireInstances = Callable[[UUID], Awaitable[None]]
"""Takes every orchestrator of an organization away from the workers."""

ShredKeys = Callable[[UUID], Awaitable[None]]
"""Makes everything that an organization has sealed unreadable."""

UsedBy = Callable[[UUID, datetime], Awaitable[Used]]
"""How much an organization has used of what flows."""


class OrganizationService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        organizations: OrganizationRepository,
        access: AccessChanges,
        retire_instances: RetireInstances,
        shred_keys: ShredKeys,
        limits: LimitsInvalidator,
        used_by: UsedBy,
        clock: Clock,
        quota: Quota,
    ) -> None:
        self._session = session
        self._organizations = organizations
        self._access = access
        self._retire_instances = retire_instances
        self._shred_keys = shred_keys
        self._limits = limits
        self._used_by = used_by
        self._clock = clock
        self._quota = quota

    async def create(self, body: OrganizationBody) -> Organization:
        """Raises AlreadyExists for a domain that is taken."""
        _check_time_zone(body.timezone)
        columns = msgspec.structs.asdict(body)
        columns["budget_per_month"] = as_decimal(body.budget_per_month)
        organization = Organization(id=new_id(), status="active", **columns)
        with _unique():
            await self._organizations.add(organization)
        return organization

    async def get(self, org_id: UUID) -> Organization:
        """Raises NotFound."""
        return await self._organizations.get(org_id)

    async def find_by_domain(self, domain: str) -> Organization | None:
        """The living organization that an email address of this domain belongs to."""
        return await self._organizations.find_by_domain(domain)

    async def quota(self, org_id: UUID) -> QuotaView:
        """Raises NotFound."""
        organization = await self._organizations.get(org_id)
        tier = msgspec.convert(organization.tier, TierName)
        used = await self._used_by(org_id, self._clock.now())
        limits = await self._quota.tier(org_id)
        return QuotaView(
            tier=tier,
            **await self._quota.use(org_id),
            concurrent_runs=UsageView(used.running, limits.concurrent_runs),
            messages_per_day=UsageView(used.messages_today, limits.messages_per_day),
            messages_per_month=UsageView(used.messages_this_month, limits.messages_per_month),
            tokens_per_day=UsageView(used.tokens_today, limits.tokens_per_day),
            tokens_per_month=UsageView(used.tokens_this_month, limits.tokens_per_month),
            budget_per_month=MoneyView(used.spent_micros / MICROS, dollars(organization.budget_per_month)),
            requests_per_minute=limits.requests_per_minute,
            request_burst=limits.request_burst,
            chats_per_minute=limits.chats_per_minute,
            member_requests_per_minute=limits.member_requests_per_minute,
        )

    async def page(self, *, after: UUID | None, limit: int) -> Sequence[Organization]:
        return await self._organizations.page(after=after, limit=limit)

    async def page_of_member(
        self, user_id: UUID, *, only: UUID | None = None, after: UUID | None, limit: int
    ) -> Sequence[tuple[Organization, Role]]:
        """The organizations a user belongs to, or `only` this one of them, each with the user's role in it."""
        rows = await self._organizations.page_of_member(user_id, only=only, after=after, limit=limit)
        return [(organization, "org_admin" if is_admin else "user") for organization, is_admin in rows]

    async def change(self, org_id: UUID, patch: ProfilePatch, *, if_match: str | None) -> Organization:
        """Raises NotFound, StaleRevision, AlreadyExists, InvalidRequest."""
        organization = await self._organizations.get(org_id, for_update=True)
        require_match(if_match, organization.revision)
        _check_time_zone(patch.timezone)
        if isinstance(patch, OrganizationPatch) and patch.status not in (msgspec.UNSET, organization.status):
            self._access.of_organization(org_id)
        if isinstance(patch, OrganizationPatch) and (patch.tier, patch.budget_per_month) != (UNSET, UNSET):
            around_commit(self._session, lambda: self._limits.organization_changed(org_id))
        apply_patch(organization, patch, skip={"budget_per_month"})
        if isinstance(patch, OrganizationPatch) and patch.budget_per_month is not UNSET:
            organization.budget_per_month = as_decimal(patch.budget_per_month)
        return await self._revise(organization)

    async def delete(self, org_id: UUID, *, if_match: str | None) -> None:
        """From now on nobody can reach anything of it and workers drop its instances.

        Its secrets are gone with its data keys; its rows stay to account for it.

        Raises NotFound, StaleRevision.
        """
        await lock_definitions(self._session, org_id)
        organization = await self._organizations.get(org_id, for_update=True)
        require_match(if_match, organization.revision)
        organization.is_deleted = True
        self._access.of_organization(org_id)
        await self._revise(organization)
        await self._retire_instances(org_id)
        await self._shred_keys(org_id)

    async def _revise(self, organization: Organization) -> Organization:
        with _unique(), self._session.no_autoflush:
            organization.revision = await next_revision(self._session)
            await self._session.flush()
        return organization


def _check_time_zone(name: object) -> None:
    if isinstance(name, str) and name not in available_timezones():
        raise InvalidRequest(errors=(FieldError("timezone", "unknown", "not a name of the IANA time zone database"),))


def _unique() -> AbstractContextManager[None]:
    return violations({"uq_organizations_domain_living": taken("domain", "this domain")})
