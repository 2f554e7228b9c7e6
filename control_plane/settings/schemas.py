from collections.abc import Mapping
from typing import Any, Self

import msgspec
from msgspec import UNSET, UnsetType

from control_plane.settings.cascade import Cascade, FixedBy, Source
from control_plane.settings.registry import Scope, Setting
from control_plane.settings.tables import GlobalSetting, OrganizationSetting
from shared.frameworks import Mode


class SettingChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an organization says of a setting. A null value takes it back; `overridable: false` fixes it below."""

    value: Any = None
    overridable: bool = True


class OrganizationSettingsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values by key, null to take one back; what is not named stays as it is."""

    settings: dict[str, Any]


class OrchestratorDefaultsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All defaults there shall be; what is not named is taken back. With `overridable: false` an orchestrator's own
    `config` has no say in it; a null value then fixes what is inherited.
    """

    settings: dict[str, SettingChange]


class GlobalSettingPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A null value goes back to the default. `overridable: false` leaves organizations and instances no say."""

    value: Any = UNSET
    overridable: bool | UnsetType = UNSET


class SettingView(msgspec.Struct):
    """One setting as it applies on the tier that was asked.

    `schema` is its type with its bounds. `value` is null where only the default of a mode applies
    (`default_by_mode`). `overridable` says whether a tier below may still set it, `is_set` whether this one does.
    """

    key: str
    description: str
    unit: str | None
    scope: Scope
    schema: dict[str, Any]
    default: Any
    default_by_mode: dict[Mode, Any]
    value: Any
    source: Source
    is_set: bool
    overridable: bool
    fixed_by: FixedBy | None
    revision: int

    @classmethod
    def of(cls, setting: Setting, cascade: Cascade, row: GlobalSetting | OrganizationSetting | None) -> Self:
        found = cascade.resolve(setting.key)
        default, by_mode = _default_of(setting.defaults)
        return cls(
            key=setting.key,
            description=setting.description,
            unit=setting.unit,
            scope=setting.scope,
            schema=setting.schema,
            default=default,
            default_by_mode=by_mode,
            value=default if found.value is UNSET else found.value,
            source=found.source,
            is_set=row is not None and row.value is not None,
            overridable=found.fixed_by is None,
            fixed_by=found.fixed_by,
            revision=row.revision if row is not None else 0,
        )


def _default_of(defaults: Mapping[Mode | None, Any]) -> tuple[Any, dict[Mode, Any]]:
    """The default, null when modes differ, and what it is in each mode."""
    by_mode = {mode: value for mode, value in defaults.items() if mode is not None}
    values = list(defaults.values())
    return (values[0] if all(value == values[0] for value in values) else None), by_mode
