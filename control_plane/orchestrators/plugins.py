"""The plugins of an instance and their settings."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.plugins.catalogue import CatalogueEntry
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettingsOf
from shared.errors import FieldError, InvalidRequest
from shared.snapshots import SEALED_DEFAULT_FIELD

Settings = dict[str, dict[str, Any]]


class InstancePlugins:
    """Rules over the catalogue; each returns the definition as it will be and saves nothing but the links."""

    def __init__(
        self, *, catalogue: PluginService, settings: PluginSettingsOf, orchestrators: OrchestratorRepository
    ) -> None:
        self._catalogue = catalogue
        self.settings = settings
        self._orchestrators = orchestrators

    async def chosen(self, org_id: UUID, refs: Sequence[str]) -> list[CatalogueEntry]:
        """The versions that refs stand for, each plugin once. Raises InvalidRequest naming every bad ref."""
        entries = await self._catalogue.resolve(org_id, refs)
        counts = Counter(entry.pid for entry in entries)
        repeated = tuple(
            FieldError(f"active_plugin_ids[{i}]", "duplicate", f"{entry.pid} is named more than once")
            for i, entry in enumerate(entries)
            if counts[entry.pid] > 1
        )
        if repeated:
            raise InvalidRequest("a plugin can be active in one version only", errors=repeated)
        return entries

    async def replaced(self, definition: Definition, refs: Sequence[str] | None, given: Settings) -> Definition:
        """With the plugins of `refs` (None: the same) and `given` settings; a new version inherits its old settings.

        Raises InvalidRequest, PluginSettingsInvalid.
        """
        if refs is None:
            plugins = list(definition.plugins)
        else:
            plugins = await self.chosen(definition.row.org_id, refs)
        return await self._with_plugins(definition, plugins, given)

    async def switched(self, definition: Definition, ref: str) -> Definition:
        """With one active plugin at the version of `ref`. Raises InvalidRequest, PluginSettingsInvalid."""
        (new,) = await self._catalogue.resolve(definition.row.org_id, [ref], field="plugin_id")
        if not any(_is_same_plugin(plugin, new) for plugin in definition.plugins):
            message = f"{new.pid} is not an active plugin of this orchestrator"
            raise InvalidRequest(message, errors=(FieldError("plugin_id", "not_active", message),))
        plugins = [new if _is_same_plugin(plugin, new) else plugin for plugin in definition.plugins]
        return await self._with_plugins(definition, plugins, {})

    def synced(self, definition: Definition) -> Settings:
        """Settings of exactly the active plugins and the keys they have, their defaults written down.

        A sensitive default stays with the plugin's row, where its author sealed it; it applies all the same.
        """
        synced: Settings = {}
        for plugin in definition.plugins:
            keys = {setting["key"] for setting in plugin.manifest.settings_schema}
            values = {key: value for key, value in definition.settings_of(plugin).items() if key in keys}
            synced[plugin.key] = {key: value for key, value in values.items() if not _is_sealed_default(value)}
        return {key: values for key, values in synced.items() if values}

    async def _with_plugins(
        self, definition: Definition, plugins: Sequence[CatalogueEntry], given: Settings
    ) -> Definition:
        row = definition.row
        settings = await self.settings(row.org_id)
        stored = dict(row.plugin_settings)
        for new in plugins:
            old = next((plugin for plugin in definition.plugins if _is_same_plugin(plugin, new)), None)
            if old is not None and old.key != new.key and new.key not in stored:
                stored[new.key] = settings.carried_over(row.id, old, new, stored.get(old.key, {}))
        row.plugin_settings = settings.checked(row.id, plugins, given, stored)
        if [plugin.id for plugin in plugins] != [plugin.id for plugin in definition.plugins]:
            await self._orchestrators.use_plugins(row.id, plugins)
        return msgspec.structs.replace(definition, plugins=plugins)


def _is_same_plugin(one: CatalogueEntry, other: CatalogueEntry) -> bool:
    return (one.source, one.pid) == (other.source, other.pid)


def _is_sealed_default(value: Any) -> bool:
    return isinstance(value, dict) and SEALED_DEFAULT_FIELD in value
