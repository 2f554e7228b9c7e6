"""Queries for tiers, and for how much an organization has of what they limit."""

from collections.abc import Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import ScalarSelect, bindparam, distinct, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.base import Base
from control_plane.database.direct import run
from control_plane.database.statements import Statement
from control_plane.organizations.tables import Organization
from control_plane.tiers.schemas import COUNTED, Counted
from control_plane.tiers.tables import Tier
from shared.errors import NotFound

_QUOTAS = 0x0CADE4D3
_LOCK = Statement(text("SELECT pg_advisory_xact_lock(:quotas, hashtext(:what))").bindparams(quotas=_QUOTAS))
_OF_ORGANIZATION = (
    select(Tier)
    .join(Organization, Organization.tier == Tier.name)
    .where(Organization.id == bindparam("its_id"), Organization.is_deleted.is_(False))
)
_LIMIT = {what: Statement(_OF_ORGANIZATION.with_only_columns(Tier.name, getattr(Tier, what))) for what in COUNTED}
_TABLES: dict[Counted, str] = {
    "orchestrators": "orchestrator_instances",
    "members": "user_org_memberships",
    "llm_configs": "organization_llm_configs",
    "central_points": "central_points",
    "plugins": "org_plugins",
}


class TierRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def all(self) -> Sequence[Tier]:
        """The smallest first."""
        query = select(Tier).order_by(Tier.requests_per_minute.nulls_last(), Tier.name)
        return (await self._session.execute(query)).scalars().all()

    async def get(self, name: str, *, for_update: bool = False) -> Tier:
        """Raises NotFound."""
        tier = await self._session.get(Tier, name, with_for_update=for_update or None)
        if tier is None:
            raise NotFound
        return tier

    async def of_organization(self, org_id: UUID) -> Tier:
        """Raises NotFound."""
        tier = (await self._session.execute(_OF_ORGANIZATION, {"its_id": org_id})).scalar_one_or_none()
        if tier is None:
            raise NotFound
        return tier

    async def limit_of(self, org_id: UUID, what: Counted) -> tuple[str, int | None]:
        """The name of the organization's tier, and how many of these it has room for. Raises NotFound."""
        if not (rows := (await run(self._session, _LIMIT[what](its_id=org_id)))[0]):
            raise NotFound
        [(name, limit)] = rows
        return name, limit

    async def count_alone(self, org_id: UUID, what: Counted) -> int:
        """How many of these the organization has; nobody else makes one until the transaction ends."""
        _, [(number,)] = await run(self._session, _LOCK(what=f"{what}:{org_id}"), _count_of(what)(org_id=org_id))
        return int(number)

    async def counts(self, org_id: UUID) -> dict[Counted, int]:
        """Of everything, in one query."""
        numbers = (_counted(what).label(what) for what in COUNTED)
        row = (await self._session.execute(select(*numbers), {"org_id": org_id})).one()
        return {what: int(getattr(row, what)) for what in COUNTED}

    async def flush(self) -> None:
        await self._session.flush()


@cache
def _count_of(what: Counted) -> Statement:
    return Statement(select(_counted(what)))


def _counted(what: Counted) -> ScalarSelect[int]:
    """Those of `org_id`. Deleted things and deactivated orchestrators do not count, and a plugin is one in all its
    versions.
    """
    table = Base.metadata.tables.get(_TABLES[what])
    if table is None:
        return select(literal(0)).scalar_subquery()
    number = func.count(distinct(table.c.pid)) if what == "plugins" else func.count()
    query = select(number).select_from(table).where(table.c.org_id == bindparam("org_id"))
    if "is_deleted" in table.c:
        query = query.where(table.c.is_deleted.is_(False))
    if what == "orchestrators":
        query = query.where(table.c.status != "inactive")
    return query.scalar_subquery()
