"""Settings of plugins: typed against their schema, sensitive ones sealed at rest and masked wherever they are shown.

Values come from the schema's defaults and, above them, from the instance. A sealed value is a marker object
(`shared.snapshots.SEALED_FIELD`); an admin may not send one, so that nothing but our own sealing is ever stored.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
from cadence_sdk.decorators.settings_decorators import is_of_type

from control_plane.plugins.catalogue import CatalogueEntry
from shared.config_hash import canonical_json
from shared.errors import FieldError, PluginSettingsInvalid
from shared.mcp.rules import setting_problem
from shared.security.data_keys import DataKeyring
from shared.snapshots import (
    SEALED_DEFAULT_FIELD,
    SEALED_FIELD,
    PluginSource,
    is_sealed,
    plugin_default_place,
    plugin_setting_place,
)

MASK = "***"

Settings = Mapping[str, Any]
InstanceSettings = Mapping[str, Any]
"""An instance's `plugin_settings`: by `<source>:<pid>@<version>`, then by setting."""


class PluginSettings:
    """The rules of settings. Holds a keyring because sealing is one of them; opens nothing but to carry over."""

    def __init__(self, keyring: DataKeyring) -> None:
        self._keyring = keyring

    def checked(
        self,
        instance_id: UUID,
        entries: Iterable[CatalogueEntry],
        given: InstanceSettings,
        stored: InstanceSettings,
        *,
        field: str = "plugin_settings",
    ) -> dict[str, dict[str, Any]]:
        """What to store for an instance that uses `entries`, when an admin sent `given` and had `stored` before.

        A `given` key is `<source>:<pid>@<version>`, or just a pid. Entries not in `given` keep what is stored. A
        `"***"` keeps the stored value, null goes back to the default. Raises PluginSettingsInvalid naming every key.
        """
        entries = list(entries)
        by_key = {e.key: e for e in entries}
        problems: list[FieldError] = []
        result = {key: dict(values) for key, values in stored.items() if key in by_key}
        for name, values in given.items():
            entry = by_key.get(name) or next((e for e in entries if e.pid == name), None)
            if entry is None:
                problems.append(FieldError(f"{field}.{name}", "unknown", "no active plugin of this instance"))
            elif not isinstance(values, Mapping):
                problems.append(FieldError(f"{field}.{name}", "type", "must be an object"))
            else:
                kept = stored.get(entry.key, {})
                result[entry.key] = self._checked_one(instance_id, entry, values, kept, f"{field}.{name}", problems)
        for entry in entries:
            problems.extend(missing_required(entry, result.get(entry.key, {}), field=f"{field}.{entry.key}"))
        if problems:
            raise PluginSettingsInvalid(errors=tuple(problems))
        return {key: values for key, values in result.items() if values}

    def carried_over(
        self, instance_id: UUID, old: CatalogueEntry, new: CatalogueEntry, stored: Settings
    ) -> dict[str, Any]:
        """The settings of `old` that `new` still has with the same type, sealed anew for their new place."""
        types = {s["key"]: s for s in new.manifest.settings_schema}
        before = {s["key"]: s for s in old.manifest.settings_schema}
        carried: dict[str, Any] = {}
        for key, value in stored.items():
            if key not in types or key not in before or types[key]["type"] != before[key]["type"]:
                continue
            plain = value
            if is_sealed(value):
                sealed = value[SEALED_FIELD]
                plain = _decoded(self._keyring.open(sealed, **plugin_setting_place(instance_id, old.key, key)))
            # A setting that was sensitive stays sealed, even when the new version forgot to say that it is.
            hide = bool(types[key].get("sensitive")) or is_sealed(value)
            carried[key] = self._sealed(instance_id, new, key, plain) if hide else plain
        return carried

    def sealed_defaults(
        self, source: PluginSource, plugin_id: UUID, defaults: Settings, schema: Iterable[Settings]
    ) -> dict[str, Any]:
        """An author's defaults for the catalogue row `plugin_id`, sensitive ones sealed."""
        sensitive = {s["key"] for s in schema if s.get("sensitive")}
        return {
            key: {
                SEALED_DEFAULT_FIELD: self._keyring.seal(
                    _encoded(value), **plugin_default_place(source, plugin_id, key)
                )
            }
            if key in sensitive
            else value
            for key, value in defaults.items()
        }

    def _checked_one(
        self,
        instance_id: UUID,
        entry: CatalogueEntry,
        given: Settings,
        stored: Settings,
        field: str,
        problems: list[FieldError],
    ) -> dict[str, Any]:
        schema = {s["key"]: s for s in entry.manifest.settings_schema}
        result = dict(stored)
        for key, value in given.items():
            setting = schema.get(key)
            if setting is None:
                problems.append(FieldError(f"{field}.{key}", "unknown", f"{entry.pid} has no such setting"))
            elif value is None:
                result.pop(key, None)
            elif value == MASK and setting.get("sensitive"):
                continue
            elif not is_of_type(value, setting["type"]) or is_sealed(value):
                problems.append(FieldError(f"{field}.{key}", "type", f"must be of type {setting['type']}"))
            elif entry.kind == "mcp" and (problem := setting_problem(key, value)):
                problems.append(FieldError(f"{field}.{key}", "invalid", problem))
            elif setting.get("sensitive"):
                result[key] = self._sealed(instance_id, entry, key, value)
            else:
                result[key] = value
        return result

    def _sealed(self, instance_id: UUID, entry: CatalogueEntry, key: str, value: Any) -> dict[str, str]:
        place = plugin_setting_place(instance_id, entry.key, key)
        return {SEALED_FIELD: self._keyring.seal(_encoded(value), **place)}


PluginSettingsOf = Callable[[UUID | None], Awaitable[PluginSettings]]
"""The rules for what belongs to an organization, or for None to the system, with its keys held until the transaction
ends."""


def effective(entry: CatalogueEntry, instance_settings: Settings) -> dict[str, Any]:
    """The author's defaults, overridden by the instance's; sealed values stay sealed."""
    return {**entry.default_settings, **instance_settings}


def missing_required(entry: CatalogueEntry, instance_settings: Settings, *, field: str) -> list[FieldError]:
    """Required settings that neither the author nor the instance gives a value."""
    values = effective(entry, instance_settings)
    return [
        FieldError(f"{field}.{s['key']}", "required", f"{entry.pid} needs the setting {s['key']!r}")
        for s in entry.manifest.settings_schema
        if s.get("required") and values.get(s["key"]) is None
    ]


def masked(value: Any) -> Any:
    """The same with `"***"` for every sealed value, at any depth: for answers and logs."""
    if is_sealed(value):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner) for inner in value]
    return value


def _encoded(value: Any) -> str:
    return canonical_json(value).decode()


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text)
