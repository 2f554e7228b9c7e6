"""Queries for what the tiers say."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import UNSET
from sqlalchemy import CompoundSelect, bindparam, literal_column, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import run
from control_plane.database.statements import Statement
from control_plane.settings.cascade import Cascade, Tier, TierValue
from control_plane.settings.tables import GlobalSetting, OrganizationSetting

SettingRow = GlobalSetting | OrganizationSetting


class SettingsRepository:
    """Every lookup of an organization's settings names the organization; only `organization_tiers` can be about all."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def cascade(self, org_id: UUID) -> Cascade:
        """The tiers above an organization's instances, as they are stored."""
        return cascade_of((await run(self._session, _ABOVE(org_id=org_id)))[0])

    async def global_rows(self) -> dict[str, GlobalSetting]:
        rows = (await self._session.execute(select(GlobalSetting))).scalars()
        return {row.key: row for row in rows}

    async def organization_rows(self, org_id: UUID) -> dict[str, OrganizationSetting]:
        rows = (
            await self._session.execute(select(OrganizationSetting).where(OrganizationSetting.org_id == org_id))
        ).scalars()
        return {row.key: row for row in rows}

    async def organization_tiers(self, org_ids: Collection[UUID] | None = None) -> Mapping[UUID, Tier]:
        """What each organization says that says anything, of some or of all."""
        query = select(OrganizationSetting)
        if org_ids is not None:
            query = query.where(OrganizationSetting.org_id.in_(org_ids))
        tiers: dict[UUID, dict[str, TierValue]] = {}
        for row in (await self._session.execute(query)).scalars():
            tiers.setdefault(row.org_id, {})[row.key] = _said(row.value, row.is_overridable)
        return tiers

    async def cascades(self, org_ids: Collection[UUID]) -> dict[UUID, Cascade]:
        """The tiers above the instances of each of many organizations."""
        of_everyone = tier_of((await self.global_rows()).values())
        own = await self.organization_tiers(org_ids)
        return {org_id: Cascade(of_everyone, own.get(org_id, {})) for org_id in org_ids}

    def add(self, row: SettingRow) -> None:
        """Stored with the next flush."""
        self._session.add(row)


def tiers_above(org_id: Any) -> CompoundSelect[Any]:
    """What is said above the instances of the organization that an expression stands for, as `cascade_of` reads it."""
    everyone = select(literal_column("true"), GlobalSetting.key, GlobalSetting.value, GlobalSetting.is_overridable)
    own = select(
        literal_column("false"), OrganizationSetting.key, OrganizationSetting.value, OrganizationSetting.is_overridable
    ).where(OrganizationSetting.org_id == org_id)
    return union_all(everyone, own)


_ABOVE = Statement(tiers_above(bindparam("org_id")))


def cascade_of(rows: Iterable[Sequence[Any]]) -> Cascade:
    tiers: dict[bool, dict[str, TierValue]] = {True: {}, False: {}}
    for is_global, key, value, is_overridable in rows:
        tiers[is_global][key] = _said(value, is_overridable)
    return Cascade(tiers[True], tiers[False])


def tier_of(rows: Iterable[SettingRow]) -> Tier:
    return {row.key: _said(row.value, row.is_overridable) for row in rows}


def _said(value: Any, is_overridable: bool) -> TierValue:
    return TierValue(UNSET if value is None else value, is_overridable)
