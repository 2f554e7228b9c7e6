"""Everything one instance is built from, and what follows from it: its `config_hash` and its snapshot."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from control_plane.llm_configs.records import LLMConfigRecord
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.choices import Model, models_of
from control_plane.orchestrators.reading import OrchestratorRecord
from control_plane.orchestrators.tables import Orchestrator
from control_plane.plugins.catalogue import CatalogueEntry
from control_plane.plugins.settings import effective as effective_plugin_settings
from control_plane.settings.cascade import Cascade, Effective, effective
from shared.config_hash import config_hash
from shared.frameworks import Framework, Mode, Provider
from shared.orchestrator_config import read_stored
from shared.pricing import ModelPrice
from shared.snapshots import InstanceStatus, LLMConfigSnapshot, OrchestratorSnapshot, PluginSnapshot, Tier

StoredRow = TypeVar("StoredRow", bound=Orchestrator | OrchestratorRecord)
"""An instance as it is changed, or as it is only looked at."""


class DefinitionOf(msgspec.Struct, Generic[StoredRow], frozen=True):
    """An instance's row with the rows it refers to, plugins in the instance's order, and the settings above it."""

    row: StoredRow
    plugins: Sequence[CatalogueEntry]
    llm_configs: Sequence[LLMConfig | LLMConfigRecord]
    cascade: Cascade

    def config_hash(self) -> str:
        """The identity of the effective configuration.

        A sealed setting counts by its sealed text and an llm_config by its revision: no secret is opened for this, and
        a secret saved anew is a change.
        """
        found = self.effective()
        return config_hash(
            {
                "framework_type": self.row.framework_type,
                "mode": self.row.mode,
                "config": found.config,
                "chat": found.chat,
                "whoami": self.row.whoami,
                "plugins": [
                    {
                        "source": plugin.source,
                        "pid": plugin.pid,
                        "version": plugin.version,
                        "digest": plugin.digest,
                        "settings": self.settings_of(plugin),
                        # The digest of a package without a lock of its own says nothing about what was locked for it.
                        **({"lock": config_hash(plugin.lock)} if plugin.lock else {}),
                        **({"trusted": True} if plugin.trusted else {}),
                    }
                    for plugin in self.plugins
                ],
                "llm_configs": {str(config.id): config.revision for config in self.llm_configs},
            }
        )

    def effective(self) -> Effective:
        """What the instance says under what its organization and the platform say."""
        return effective(Mode(self.row.mode), self.row.config, self.cascade)

    def settings_of(self, plugin: CatalogueEntry) -> dict[str, Any]:
        """The author's defaults under the instance's own values, sealed ones sealed."""
        return effective_plugin_settings(plugin, self.row.plugin_settings.get(plugin.key, {}))

    def models(self) -> frozenset[Model]:
        """Every model that its calls may go to."""
        config = read_stored(Mode(self.row.mode), self.effective().config)
        return models_of(config, self.llm_configs)

    def snapshot(self, prices: Sequence[ModelPrice] = ()) -> OrchestratorSnapshot:
        """`prices` are those of its models."""
        row, found = self.row, self.effective()
        return OrchestratorSnapshot(
            instance_id=row.id,
            org_id=row.org_id,
            name=row.name,
            framework_type=Framework(row.framework_type),
            mode=Mode(row.mode),
            status=msgspec.convert(row.status, InstanceStatus),
            tier=msgspec.convert(row.tier, Tier),
            is_unloaded=row.is_unloaded,
            revision=row.revision,
            config_hash=row.config_hash,
            whoami=row.whoami,
            config=found.config,
            plugins=tuple(self._plugin_snapshot(plugin) for plugin in self.plugins),
            # A disabled credential is left out, so that nothing is built with it any more.
            llm_configs={str(c.id): _llm_config_snapshot(c) for c in self.llm_configs if c.is_enabled},
            chat=found.chat,
            prices=tuple(prices),
        )

    def _plugin_snapshot(self, plugin: CatalogueEntry) -> PluginSnapshot:
        return PluginSnapshot(
            plugin_id=plugin.id,
            source=plugin.source,
            org_id=plugin.org_id,
            pid=plugin.pid,
            version=plugin.version,
            digest=plugin.digest,
            package_key=plugin.package_key,
            manifest=plugin.manifest,
            settings=self.settings_of(plugin),
            trusted=plugin.trusted,
            lock=plugin.lock,
            kind=plugin.kind,
            mcp=plugin.mcp,
        )


Definition = DefinitionOf[Orchestrator]
"""One that is being changed, or what it refers to is."""


def _llm_config_snapshot(config: LLMConfig | LLMConfigRecord) -> LLMConfigSnapshot:
    return LLMConfigSnapshot(
        id=config.id,
        provider=Provider(config.provider),
        model_name=config.model_name,
        base_url=config.base_url,
        additional_config=config.additional_config,
        sealed_api_key=config.sealed_api_key,
        key_fingerprint=config.key_fingerprint,
        revision=config.revision,
    )
