"""Changing settings: what may be said on which tier, and who has to hear of it."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.locks import lock_definitions
from control_plane.database.revisions import next_revision, require_match
from control_plane.events.outbox import record
from control_plane.settings.cascade import Cascade
from control_plane.settings.registry import SETTINGS, Scope, Setting, settings_of
from control_plane.settings.repository import SettingRow, SettingsRepository, tier_of
from control_plane.settings.schemas import GlobalSettingPatch, SettingChange, SettingView
from control_plane.settings.tables import GlobalSetting, OrganizationSetting
from shared.clock import Clock
from shared.errors import FieldError, InvalidRequest, NotFound, SettingFixed
from shared.events import GlobalSettingsChanged, OrganizationSettingsChanged
from shared.ids import new_id

CascadeOf = Callable[[UUID], Cascade]
RebuildAffected = Callable[[UUID | None, Collection[str], CascadeOf, CascadeOf], Awaitable[None]]
"""Gives a new hash and revision to every instance, of one organization or of all, whose effective configuration is
another after the change of these settings than before it, and to no other."""


class SettingsService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        settings: SettingsRepository,
        rebuild_affected: RebuildAffected,
        clock: Clock,
    ) -> None:
        self._session = session
        self._settings = settings
        self._rebuild_affected = rebuild_affected
        self._clock = clock

    async def show_global(self) -> list[SettingView]:
        rows = await self._settings.global_rows()
        cascade = Cascade(tier_of(rows.values()))
        return [SettingView.of(setting, cascade, rows.get(setting.key)) for setting in settings_of()]

    async def show(self, org_id: UUID, scope: Scope) -> tuple[list[SettingView], int]:
        """An organization's settings of one scope as they apply to it, and the revision of them all."""
        cascade = await self._settings.cascade(org_id)
        rows = await self._settings.organization_rows(org_id)
        views = [SettingView.of(setting, cascade, rows.get(setting.key)) for setting in settings_of(scope)]
        return views, _revision(rows, scope)

    async def change_global(self, key: str, patch: GlobalSettingPatch, *, if_match: str | None) -> SettingView:
        """Raises NotFound for an unknown key, InvalidRequest, StaleRevision."""
        setting = SETTINGS.get(key)
        if setting is None:
            raise NotFound(f"there is no setting {key}")
        await lock_definitions(self._session, None)
        rows = await self._settings.global_rows()
        require_match(if_match, rows[key].revision if key in rows else 0)
        before = tier_of(rows.values())
        row = rows.setdefault(key, GlobalSetting(key=key, value=None, is_overridable=True))
        if patch.value is not UNSET:
            row.value = None if patch.value is None else setting.checked(patch.value, "value")
        if patch.overridable is not UNSET:
            row.is_overridable = patch.overridable
        after = tier_of(rows.values())
        of_organizations = await self._settings.organization_tiers()
        with self._session.no_autoflush:
            await self._rebuild_affected(
                None,
                [key],
                lambda org_id: Cascade(before, of_organizations.get(org_id, {})),
                lambda org_id: Cascade(after, of_organizations.get(org_id, {})),
            )
            revision = await self._store([row])
        event = GlobalSettingsChanged(event_id=new_id(), revision=revision, occurred_at=self._clock.now(), keys=(key,))
        await record(self._session, event)
        return SettingView.of(setting, Cascade(after), row)

    async def change(
        self, org_id: UUID, scope: Scope, changes: Mapping[str, SettingChange], *, if_match: str | None, whole: bool
    ) -> tuple[list[SettingView], int]:
        """Say what `changes` name, all of it or nothing. `whole`: take back what they do not name.

        Raises InvalidRequest naming every key that is unknown or badly set, SettingFixed, StaleRevision.
        """
        await lock_definitions(self._session, org_id)
        rows = await self._settings.organization_rows(org_id)
        of_everyone = (await self._settings.cascade(org_id)).above_organization()
        require_match(if_match, _revision(rows, scope))
        checked = _checked(scope, changes, of_everyone)
        if whole:
            left_out = [setting.key for setting in settings_of(scope) if setting.key not in checked]
            checked |= {key: SettingChange(value=None) for key in left_out if key in rows}
        before = tier_of(rows.values())
        changed = [row for key, change in checked.items() if (row := _apply(rows, org_id, key, change))]
        after = tier_of(rows.values())
        if changed:
            keys = tuple(sorted(row.key for row in changed))
            with self._session.no_autoflush:
                await self._rebuild_affected(
                    org_id,
                    keys,
                    lambda _: msgspec.structs.replace(of_everyone, of_organization=before),
                    lambda _: msgspec.structs.replace(of_everyone, of_organization=after),
                )
                revision = await self._store(changed)
            event = OrganizationSettingsChanged(
                event_id=new_id(), revision=revision, occurred_at=self._clock.now(), org_id=org_id, keys=keys
            )
            await record(self._session, event)
        cascade = msgspec.structs.replace(of_everyone, of_organization=after)
        views = [SettingView.of(setting, cascade, rows.get(setting.key)) for setting in settings_of(scope)]
        return views, _revision(rows, scope)

    async def _store(self, rows: list[SettingRow]) -> int:
        """The newest revision. It is younger than those of the rebuilt instances, so workers that hear of it look."""
        revision = 0
        for row in rows:
            row.revision = revision = await next_revision(self._session)
            self._settings.add(row)
        await self._session.flush()
        return revision


def _checked(scope: Scope, changes: Mapping[str, SettingChange], of_everyone: Cascade) -> dict[str, SettingChange]:
    known = {setting.key: setting for setting in settings_of(scope)}
    problems: list[FieldError] = []
    fixed: list[FieldError] = []
    checked: dict[str, SettingChange] = {}
    for key, change in changes.items():
        field = f"settings.{key}"
        setting = known.get(key)
        if setting is None:
            problems.append(FieldError(field, "unknown", f"there is no such setting of scope {scope}"))
            continue
        try:
            value = None if change.value is None else setting.checked(change.value, f"{field}.value")
        except InvalidRequest as refusal:
            problems += refusal.errors
            continue
        if of_everyone.resolve(key).fixed_by and value is not None and value != _inherited(setting, of_everyone):
            fixed.append(FieldError(field, "fixed", "fixed by the global settings"))
        checked[key] = SettingChange(value, change.overridable)
    if problems:
        raise InvalidRequest("a setting is unknown or cannot be set to this", errors=tuple(problems))
    if fixed:
        raise SettingFixed(errors=tuple(fixed))
    return checked


def _inherited(setting: Setting, of_everyone: Cascade) -> object:
    """The value from above when it is the same for every mode."""
    value = of_everyone.resolve(setting.key).value
    if value is not UNSET:
        return value
    defaults = {repr(default): default for default in setting.defaults.values()}
    return next(iter(defaults.values())) if len(defaults) == 1 else UNSET


def _apply(rows: dict[str, OrganizationSetting], org_id: UUID, key: str, change: SettingChange) -> SettingRow | None:
    """The changed row; None when it says the same already."""
    row = rows.get(key)
    if (row.value, row.is_overridable) == (change.value, change.overridable) if row else change == SettingChange(None):
        return None
    if row is None:
        row = rows[key] = OrganizationSetting(org_id=org_id, key=key)
    row.value, row.is_overridable = change.value, change.overridable
    return row


def _revision(rows: Mapping[str, SettingRow], scope: Scope) -> int:
    """The revision of all of an organization's settings of one scope together; 0 before the first."""
    return max((rows[setting.key].revision for setting in settings_of(scope) if setting.key in rows), default=0)
