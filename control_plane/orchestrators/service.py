"""Orchestrators: what an organization may configure, and what becomes of it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.locks import lock_definitions
from control_plane.database.revisions import require_match
from control_plane.llm_configs.records import LLMConfigRecord
from control_plane.llm_configs.service import LLMConfigService
from control_plane.orchestrators.choices import check_models, check_plugins
from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.plugins import InstancePlugins
from control_plane.orchestrators.reading import OrchestratorRecord
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.saving import DefinitionSaver, Fact
from control_plane.orchestrators.schemas import OrchestratorBody, OrchestratorPatch
from control_plane.orchestrators.tables import Orchestrator
from control_plane.settings.cascade import Cascade, require_free
from control_plane.tiers.quota import Quota
from shared.errors import Conflict, FieldError, ImmutableField, InUse, NotFound, OrchestratorDeactivated
from shared.events import OrchestratorLoad, OrchestratorReload, OrchestratorUnload
from shared.frameworks import Framework, Mode
from shared.ids import new_id
from shared.orchestrator_config import AnyConfig, parse_config, read_stored, to_given
from shared.security.grants import Grant


class OrchestratorService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        orchestrators: OrchestratorRepository,
        saver: DefinitionSaver,
        plugins: InstancePlugins,
        llm_configs: LLMConfigService,
        quota: Quota,
    ) -> None:
        self._session = session
        self._orchestrators = orchestrators
        self._saver = saver
        self._plugins = plugins
        self._llm_configs = llm_configs
        self._quota = quota

    async def create(self, org_id: UUID, body: OrchestratorBody) -> OrchestratorRecord:
        """Raises InvalidRequest and its kinds, AlreadyExists, QuotaReached."""
        await lock_definitions(self._session, org_id)
        cascade = await self._orchestrators.cascade(org_id)
        config, llm_configs = await self._checked(org_id, body.framework_type, body.mode, body.config, cascade)
        plugins = await self._plugins.chosen(org_id, body.active_plugin_ids)
        check_plugins(body.mode, config, plugins)
        settings = await self._plugins.settings(org_id)
        await self._quota.check("orchestrators", org_id)
        instance_id = new_id()
        row = Orchestrator(
            id=instance_id,
            org_id=org_id,
            name=body.name,
            framework_type=body.framework_type,
            mode=body.mode,
            status="active",
            tier=body.tier,
            is_unloaded=False,
            is_deleted=False,
            whoami=body.whoami,
            config=to_given(body.mode, config, body.config),
            plugin_settings=settings.checked(instance_id, plugins, body.plugin_settings, {}),
        )
        with self._session.no_autoflush:
            self._orchestrators.add(row)
            self._orchestrators.add_plugins(instance_id, plugins)
            self._orchestrators.add_llm_configs(instance_id, config.llm_config_ids())
            return await self._saved(Definition(row, plugins, llm_configs, cascade), OrchestratorLoad)

    async def change(
        self, org_id: UUID, instance_id: UUID, patch: OrchestratorPatch, *, if_match: str | None
    ) -> OrchestratorRecord:
        """Raises ImmutableField, InvalidRequest, NotFound, OrchestratorDeactivated, StaleRevision, AlreadyExists."""
        frozen = [name for name in ("framework_type", "mode") if getattr(patch, name) is not UNSET]
        if frozen:
            message = "fixed at creation; make a new orchestrator instead"
            raise ImmutableField(errors=tuple(FieldError(name, "immutable", message) for name in frozen))
        definition = await self._opened(org_id, instance_id, if_match)
        row = definition.row
        with self._session.no_autoflush:
            for name in ("name", "tier", "whoami"):
                if (value := getattr(patch, name)) is not UNSET:
                    setattr(row, name, value)
            if patch.active_plugin_ids is not UNSET or patch.plugin_settings is not UNSET:
                definition = await self._plugins.replaced(
                    definition,
                    None if patch.active_plugin_ids is UNSET else patch.active_plugin_ids,
                    {} if patch.plugin_settings is UNSET else patch.plugin_settings,
                )
                _check_plugins(definition)
            return await self._saved(definition, OrchestratorReload)

    async def replace_config(
        self, org_id: UUID, instance_id: UUID, raw: dict[str, Any], *, if_match: str | None
    ) -> OrchestratorRecord:
        """All of it or nothing. Raises like `change`."""
        definition = await self._opened(org_id, instance_id, if_match)
        row = definition.row
        config, llm_configs = await self._checked(
            org_id, Framework(row.framework_type), Mode(row.mode), raw, definition.cascade
        )
        check_plugins(Mode(row.mode), config, definition.plugins)
        with self._session.no_autoflush:
            row.config = to_given(Mode(row.mode), config, raw)
            if {used.id for used in llm_configs} != {used.id for used in definition.llm_configs}:
                await self._orchestrators.use_llm_configs(row.id, config.llm_config_ids())
            return await self._saved(msgspec.structs.replace(definition, llm_configs=llm_configs), OrchestratorReload)

    async def set_status(
        self, org_id: UUID, instance_id: UUID, status: str, *, if_match: str | None
    ) -> OrchestratorRecord:
        """Suspend (it answers 503 at once) or activate again.

        Raises NotFound, OrchestratorDeactivated, StaleRevision.
        """
        definition = await self._opened(org_id, instance_id, if_match)
        definition.row.status = status
        return await self._saved(definition, OrchestratorReload if status == "active" else OrchestratorUnload)

    async def delete(self, org_id: UUID, instance_id: UUID, *, grant: Grant, if_match: str | None) -> None:
        """Deactivate, as a member of the organization; soft-delete, as a sys_admin who is none or who asks again.

        Raises NotFound, OrchestratorDeactivated, StaleRevision, InUse.
        """
        row = await self._orchestrators.get_any_for_change(org_id, instance_id)
        if row.is_deleted:
            raise NotFound
        require_match(if_match, row.revision)
        if points := await self._orchestrators.pointed_at_by(instance_id):
            raise InUse(
                f"central points refer to it: {', '.join(points[:5])}{' and others' if len(points) > 5 else ''}"
            )
        if grant.is_sys_admin and (not grant.is_member or row.status == "inactive"):
            row.is_deleted = True
        elif row.status == "inactive":
            raise OrchestratorDeactivated
        row.status = "inactive"
        await self._saver.bump(row, OrchestratorUnload)

    async def purge(self, org_id: UUID, instance_id: UUID) -> None:
        """Remove every trace of a soft-deleted instance. Raises NotFound, Conflict."""
        row = await self._orchestrators.get_any_for_change(org_id, instance_id)
        if not row.is_deleted:
            raise Conflict("only a soft-deleted orchestrator can be purged")
        await self._orchestrators.remove(row)

    async def change_plugin_settings(
        self, org_id: UUID, instance_id: UUID, given: dict[str, dict[str, Any]], *, if_match: str | None
    ) -> OrchestratorRecord:
        """Raises PluginSettingsInvalid and what `change` raises."""
        definition = await self._opened(org_id, instance_id, if_match)
        with self._session.no_autoflush:
            return await self._saved(await self._plugins.replaced(definition, None, given), OrchestratorReload)

    async def activate_plugin(
        self, org_id: UUID, instance_id: UUID, ref: str, *, if_match: str | None
    ) -> OrchestratorRecord:
        """Switch a plugin to another version, its settings carried over. Raises InvalidRequest and like `change`."""
        definition = await self._opened(org_id, instance_id, if_match)
        with self._session.no_autoflush:
            definition = await self._plugins.switched(definition, ref)
            _check_plugins(definition)
            return await self._saved(definition, OrchestratorReload)

    async def sync_plugins(self, org_id: UUID, instance_id: UUID, *, if_match: str | None) -> OrchestratorRecord:
        """Settings of plugins no longer active are dropped, defaults of new keys written down. Raises like `change`."""
        definition = await self._opened(org_id, instance_id, if_match)
        definition.row.plugin_settings = self._plugins.synced(definition)
        return await self._saved(definition, OrchestratorReload)

    async def _opened(self, org_id: UUID, instance_id: UUID, if_match: str | None) -> Definition:
        definition = await self._orchestrators.get_definition_for_change(org_id, instance_id)
        require_match(if_match, definition.row.revision)
        return definition

    async def _saved(self, definition: Definition, fact: Fact) -> OrchestratorRecord:
        await self._saver.save(definition, fact)
        return OrchestratorRecord.of(definition.row, [plugin.id for plugin in definition.plugins])

    async def _checked(
        self, org_id: UUID, framework: Framework, mode: Mode, raw: dict[str, Any], cascade: Cascade
    ) -> tuple[AnyConfig, Sequence[LLMConfigRecord]]:
        config = parse_config(mode, raw)
        require_free(mode, to_given(mode, config, raw), cascade)
        llm_configs = await self._llm_configs.require(org_id, config.llm_config_ids())
        check_models(framework, config, llm_configs)
        return config, llm_configs


def _check_plugins(definition: Definition) -> None:
    mode = Mode(definition.row.mode)
    check_plugins(mode, read_stored(mode, definition.row.config), definition.plugins)
