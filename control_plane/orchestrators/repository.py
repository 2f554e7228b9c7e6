"""Queries that change or rebuild instances. What callers only look at is read by `reading`."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Exists, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.locks import lock_definitions
from control_plane.database.violations import taken, violations
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig, OrchestratorPlugin
from control_plane.plugins.catalogue import CatalogueEntry, entry_of
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from shared.errors import NotFound, OrchestratorDeactivated
from shared.snapshots import PluginSource


class OrchestratorRepository:
    """Built per request; every lookup by a caller names the organization."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get_for_change(self, org_id: UUID, instance_id: UUID) -> Orchestrator:
        """A living instance that nobody else changes until the transaction ends.

        Raises NotFound, OrchestratorDeactivated.
        """
        return _living(await self.get_any_for_change(org_id, instance_id))

    async def get_any_for_change(self, org_id: UUID, instance_id: UUID) -> Orchestrator:
        """The same for a deactivated or soft-deleted one too. Raises NotFound."""
        await lock_definitions(self._session, org_id)
        query = select(Orchestrator).where(Orchestrator.org_id == org_id, Orchestrator.id == instance_id)
        row = (await self._session.execute(query)).scalar_one_or_none()
        if row is None:
            raise NotFound
        return row

    async def get_definition(self, org_id: UUID, instance_id: UUID) -> Definition:
        """To look at, without keeping anybody from changing it. Raises NotFound, OrchestratorDeactivated."""
        query = select(Orchestrator).where(Orchestrator.org_id == org_id, Orchestrator.id == instance_id)
        return await self.definition(_living((await self._session.execute(query)).scalar_one_or_none()))

    async def definition(self, row: Orchestrator) -> Definition:
        """The row with what it refers to."""
        return Definition(row, await self._plugins_of(row.id), await self._llm_configs_of(row.id))

    def add(self, row: Orchestrator) -> None:
        """Stored with the next flush."""
        self._session.add(row)

    async def flush(self) -> None:
        """Raises AlreadyExists."""
        with violations({"uq_orchestrator_instances_name_living": taken("name", "this name")}):
            await self._session.flush()

    async def use_plugins(self, instance_id: UUID, plugins: Sequence[CatalogueEntry]) -> None:
        """Replace the instance's plugins."""
        await self._session.execute(delete(OrchestratorPlugin).where(OrchestratorPlugin.instance_id == instance_id))
        self._session.add_all(
            OrchestratorPlugin(
                instance_id=instance_id,
                position=position,
                system_plugin_id=plugin.id if plugin.source == "system" else None,
                org_plugin_id=plugin.id if plugin.source == "org" else None,
            )
            for position, plugin in enumerate(plugins)
        )

    async def use_llm_configs(self, instance_id: UUID, config_ids: Collection[UUID]) -> None:
        """Replace the instance's references to llm_configs."""
        links = OrchestratorLLMConfig
        await self._session.execute(delete(links).where(links.instance_id == instance_id))
        self._session.add_all(links(instance_id=instance_id, llm_config_id=i) for i in sorted(config_ids))

    async def users_of_llm_config(self, config_id: UUID) -> Sequence[Orchestrator]:
        uses = exists().where(
            OrchestratorLLMConfig.instance_id == Orchestrator.id, OrchestratorLLMConfig.llm_config_id == config_id
        )
        return await self._living_users(uses)

    async def users_of_plugin(self, source: PluginSource, plugin_id: UUID) -> Sequence[Orchestrator]:
        column = OrchestratorPlugin.system_plugin_id if source == "system" else OrchestratorPlugin.org_plugin_id
        return await self._living_users(
            exists().where(OrchestratorPlugin.instance_id == Orchestrator.id, column == plugin_id)
        )

    async def not_deleted(self, org_id: UUID) -> Sequence[Orchestrator]:
        """Every instance of an organization, deactivated ones included."""
        query = select(Orchestrator).where(Orchestrator.org_id == org_id, Orchestrator.is_deleted.is_(False))
        return (await self._session.execute(query.order_by(Orchestrator.id))).scalars().all()

    async def remove(self, row: Orchestrator) -> None:
        await self._session.delete(row)
        await self._session.flush()

    async def _living_users(self, uses: Exists) -> Sequence[Orchestrator]:
        query = (
            select(Orchestrator)
            .where(uses, Orchestrator.is_deleted.is_(False), Orchestrator.status != "inactive")
            .order_by(Orchestrator.id)
        )
        return (await self._session.execute(query)).scalars().all()

    async def _plugins_of(self, instance_id: UUID) -> list[CatalogueEntry]:
        query = (
            select(SystemPlugin, OrgPlugin)
            .select_from(OrchestratorPlugin)
            .outerjoin(SystemPlugin, SystemPlugin.id == OrchestratorPlugin.system_plugin_id)
            .outerjoin(OrgPlugin, OrgPlugin.id == OrchestratorPlugin.org_plugin_id)
            .where(OrchestratorPlugin.instance_id == instance_id)
            .order_by(OrchestratorPlugin.position)
        )
        rows = (await self._session.execute(query)).all()
        return [entry_of(row) for pair in rows for row in pair if row is not None]

    async def _llm_configs_of(self, instance_id: UUID) -> Sequence[LLMConfig]:
        query = (
            select(LLMConfig)
            .join(OrchestratorLLMConfig, OrchestratorLLMConfig.llm_config_id == LLMConfig.id)
            .where(OrchestratorLLMConfig.instance_id == instance_id)
            .order_by(LLMConfig.id)
        )
        return (await self._session.execute(query)).scalars().all()


def _living(row: Orchestrator | None) -> Orchestrator:
    if row is None or row.is_deleted:
        raise NotFound
    if row.status == "inactive":
        raise OrchestratorDeactivated
    return row
