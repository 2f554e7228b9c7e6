"""Queries that change or rebuild instances. What callers only look at is read by `reading`."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import cast
from uuid import UUID

from sqlalchemy import ARRAY, Exists, String, bindparam, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.central_points.tables import CentralPoint
from control_plane.database.base import revision_sequence
from control_plane.database.direct import run
from control_plane.database.locks import definitions_lock
from control_plane.database.rows import columns_of, opened, revise, revise_last
from control_plane.database.statements import Statement
from control_plane.database.violations import taken, violations
from control_plane.events.outbox import recorded_with
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators import parts
from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig, OrchestratorPlugin
from control_plane.plugins.catalogue import CatalogueEntry, CatalogueRow, entry_of
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from control_plane.settings.cascade import Cascade
from control_plane.settings.repository import SettingsRepository
from shared.errors import NotFound, OrchestratorDeactivated
from shared.events import AnyEvent
from shared.frameworks import Provider
from shared.snapshots import PluginSource

_ANY = Statement(
    select(*columns_of(Orchestrator)).where(
        Orchestrator.org_id == bindparam("org_id"), Orchestrator.id == bindparam("instance_id")
    )
)


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
        asked = _ANY(org_id=org_id, instance_id=instance_id)
        _, found = await run(self._session, definitions_lock(org_id), asked)
        if not found:
            raise NotFound
        return opened(self._session, Orchestrator, found[0])

    async def get_definition_for_change(self, org_id: UUID, instance_id: UUID) -> Definition:
        """The same as `get_for_change`, with what the instance refers to."""
        asked = (_ANY(org_id=org_id, instance_id=instance_id), *parts.questions(instance_id))
        _, found, *referred_to = await run(self._session, definitions_lock(org_id), *asked)
        row = opened(self._session, Orchestrator, found[0]) if found else None
        return parts.definition_of(_living(row), *referred_to)

    async def get_definition(self, org_id: UUID, instance_id: UUID) -> Definition:
        """To look at, without keeping anybody from changing it. Raises NotFound, OrchestratorDeactivated."""
        query = select(Orchestrator).where(Orchestrator.org_id == org_id, Orchestrator.id == instance_id)
        return await self.definition(_living((await self._session.execute(query)).scalar_one_or_none()))

    async def definition(self, row: Orchestrator) -> Definition:
        """The row with what it refers to."""
        return (await self.definitions([row]))[0]

    async def definitions(self, rows: Sequence[Orchestrator]) -> list[Definition]:
        """The same for many, in as few queries."""
        ids = [row.id for row in rows]
        plugins, llm_configs = await self._plugins_of(ids), await self._llm_configs_of(ids)
        org_ids = {row.org_id for row in rows}
        settings = SettingsRepository(self._session)
        # One query for one organization, as most calls are about one instance.
        if len(org_ids) == 1:
            cascades = {org_id: await settings.cascade(org_id) for org_id in org_ids}
        else:
            cascades = await settings.cascades(org_ids)
        return [
            Definition(row, plugins.get(row.id, []), llm_configs.get(row.id, []), cascades[row.org_id]) for row in rows
        ]

    async def cascade(self, org_id: UUID) -> Cascade:
        """The settings above an organization's instances."""
        return await SettingsRepository(self._session).cascade(org_id)

    def add(self, row: Orchestrator) -> None:
        """Stored with the next flush."""
        self._session.add(row)

    async def revise(self, row: Orchestrator) -> None:
        """Store it at its next revision. Raises AlreadyExists."""
        with _unique():
            await revise(self._session, row)

    async def revise_last(self, row: Orchestrator, told: AnyEvent) -> None:
        """The same of the last one that the transaction changes, of whose revision `told` tells.

        Raises AlreadyExists.
        """
        with _unique():
            await revise_last(self._session, row, recorded_with(told))

    async def use_plugins(self, instance_id: UUID, plugins: Sequence[CatalogueEntry]) -> None:
        """Replace the instance's plugins."""
        await self._session.execute(delete(OrchestratorPlugin).where(OrchestratorPlugin.instance_id == instance_id))
        self.add_plugins(instance_id, plugins)

    def add_plugins(self, instance_id: UUID, plugins: Sequence[CatalogueEntry]) -> None:
        """The same of a new one."""
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
        self.add_llm_configs(instance_id, config_ids)

    def add_llm_configs(self, instance_id: UUID, config_ids: Collection[UUID]) -> None:
        """The same of a new one."""
        links = OrchestratorLLMConfig
        self._session.add_all(links(instance_id=instance_id, llm_config_id=i) for i in sorted(config_ids))

    async def users_of_llm_config(self, config_id: UUID) -> Sequence[Orchestrator]:
        uses = exists().where(
            OrchestratorLLMConfig.instance_id == Orchestrator.id, OrchestratorLLMConfig.llm_config_id == config_id
        )
        return await self._living_users(uses)

    async def users_of_providers(
        self, providers: Collection[Provider], *, after: UUID | None, limit: int
    ) -> Sequence[Orchestrator]:
        """Up to `limit` living instances of all organizations with a credential of one of these, by their ids."""
        links = OrchestratorLLMConfig
        uses = exists().where(
            links.instance_id == Orchestrator.id, links.llm_config_id == LLMConfig.id, LLMConfig.provider.in_(providers)
        )
        query = (
            select(Orchestrator)
            .where(uses, Orchestrator.is_deleted.is_(False), Orchestrator.status != "inactive")
            .order_by(Orchestrator.id)
            .limit(limit)
        )
        if after is not None:
            query = query.where(Orchestrator.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def users_of_plugin(self, source: PluginSource, plugin_id: UUID) -> Sequence[Orchestrator]:
        column = OrchestratorPlugin.system_plugin_id if source == "system" else OrchestratorPlugin.org_plugin_id
        return await self._living_users(
            exists().where(OrchestratorPlugin.instance_id == Orchestrator.id, column == plugin_id)
        )

    async def pointed_at_by(self, instance_id: UUID) -> Sequence[str]:
        """The names of the central points that refer to an instance."""
        query = select(CentralPoint.name).where(
            CentralPoint.instance_id == instance_id, CentralPoint.is_deleted.is_(False)
        )
        return (await self._session.execute(query.order_by(CentralPoint.name))).scalars().all()

    async def not_deleted(self, org_id: UUID) -> Sequence[Orchestrator]:
        """Every instance of an organization, deactivated ones included."""
        query = select(Orchestrator).where(Orchestrator.org_id == org_id, Orchestrator.is_deleted.is_(False))
        return (await self._session.execute(query.order_by(Orchestrator.id))).scalars().all()

    async def living(self, org_id: UUID | None, *, after: UUID | None, limit: int) -> Sequence[Orchestrator]:
        """Up to `limit` instances that may run again, of one organization or of all, in the order of their ids."""
        query = (
            select(Orchestrator)
            .where(Orchestrator.is_deleted.is_(False), Orchestrator.status != "inactive")
            .order_by(Orchestrator.id)
            .limit(limit)
        )
        if org_id is not None:
            query = query.where(Orchestrator.org_id == org_id)
        if after is not None:
            query = query.where(Orchestrator.id > after)
        return (await self._session.execute(query)).scalars().all()

    async def revise_all(self, hashes: Mapping[UUID, str]) -> None:
        """Give each instance its new hash and a revision of its own, in one statement.

        Whoever calls this has called `next_revision` in the transaction, which keeps the order of revisions.
        """
        hashed = (
            func.unnest(literal([*hashes], ARRAY(PG_UUID)), literal([*hashes.values()], ARRAY(String)))
            .table_valued("id", "config_hash")
            .render_derived()
        )
        await self._session.execute(
            update(Orchestrator)
            .where(Orchestrator.id == hashed.c.id)
            .values(config_hash=hashed.c.config_hash, revision=revision_sequence.next_value())
            .execution_options(synchronize_session=False)
        )

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

    async def _plugins_of(self, instance_ids: Sequence[UUID]) -> dict[UUID, list[CatalogueEntry]]:
        query = (
            select(OrchestratorPlugin.instance_id, SystemPlugin, OrgPlugin)
            .select_from(OrchestratorPlugin)
            .outerjoin(SystemPlugin, SystemPlugin.id == OrchestratorPlugin.system_plugin_id)
            .outerjoin(OrgPlugin, OrgPlugin.id == OrchestratorPlugin.org_plugin_id)
            .where(OrchestratorPlugin.instance_id.in_(instance_ids))
            .order_by(OrchestratorPlugin.instance_id, OrchestratorPlugin.position)
        )
        found: dict[UUID, list[CatalogueEntry]] = {}
        for instance_id, *either in await self._session.execute(query):
            (row,) = [row for row in cast("list[CatalogueRow | None]", either) if row is not None]
            found.setdefault(instance_id, []).append(entry_of(row))
        return found

    async def _llm_configs_of(self, instance_ids: Sequence[UUID]) -> dict[UUID, list[LLMConfig]]:
        query = (
            select(OrchestratorLLMConfig.instance_id, LLMConfig)
            .join(LLMConfig, OrchestratorLLMConfig.llm_config_id == LLMConfig.id)
            .where(OrchestratorLLMConfig.instance_id.in_(instance_ids))
            .order_by(OrchestratorLLMConfig.instance_id, LLMConfig.id)
        )
        found: dict[UUID, list[LLMConfig]] = {}
        for instance_id, config in await self._session.execute(query):
            found.setdefault(instance_id, []).append(config)
        return found


def _living(row: Orchestrator | None) -> Orchestrator:
    if row is None or row.is_deleted:
        raise NotFound
    if row.status == "inactive":
        raise OrchestratorDeactivated
    return row


def _unique() -> AbstractContextManager[None]:
    return violations({"uq_orchestrator_instances_name_living": taken("name", "this name")})
