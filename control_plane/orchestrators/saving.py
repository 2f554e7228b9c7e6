"""How a changed instance becomes visible: a new hash, a new revision and an event, all in the change's transaction."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.revisions import next_revision
from control_plane.events.outbox import record
from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.repository import OrchestratorRepository
from control_plane.orchestrators.tables import Orchestrator
from control_plane.settings.cascade import is_other
from control_plane.settings.service import CascadeOf
from shared.clock import Clock
from shared.events import GlobalSettingsChanged, OrchestratorLoad, OrchestratorReload, OrchestratorUnload
from shared.frameworks import SAME_VENDOR, Mode, Provider
from shared.ids import new_id
from shared.snapshots import PluginSource

CHUNK = 200

Fact = type[OrchestratorLoad | OrchestratorReload | OrchestratorUnload]


class DefinitionSaver:
    """The last step of every change, and the whole of those that come from elsewhere."""

    def __init__(self, *, session: AsyncSession, orchestrators: OrchestratorRepository, clock: Clock) -> None:
        self._session = session
        self._orchestrators = orchestrators
        self._clock = clock

    async def save(self, definition: Definition, fact: Fact, *, is_last: bool = True) -> UUID:
        """The id of the operation that workers are told of. The last one ends the transaction where it can.

        Raises AlreadyExists.
        """
        definition.row.config_hash = definition.config_hash()
        return await self.bump(definition.row, fact, is_last=is_last)

    async def bump(self, row: Orchestrator, fact: Fact, *, is_last: bool = True) -> UUID:
        """The same for a change that what is built does not depend on: status, tier, intent. Raises AlreadyExists."""
        operation_id = new_id()
        if not is_last:
            await self._orchestrators.revise(row)
        about: dict[str, Any] = {
            "event_id": new_id(),
            "revision": row.revision,
            "occurred_at": self._clock.now(),
            "org_id": row.org_id,
            "instance_id": row.id,
            "operation_id": operation_id,
        }
        if fact is OrchestratorLoad:
            about["tier"] = row.tier
        event = fact(**about)
        if is_last:
            await self._orchestrators.revise_last(row, event)
        else:
            await record(self._session, event)
        return operation_id

    async def rebuild_users_of_llm_config(self, config_id: UUID) -> None:
        """An llm_config changed in this transaction: every instance that uses it gets a new hash and revision.

        Whoever calls this holds `lock_definitions` of the organization.
        """
        await self._rebuild(await self._orchestrators.users_of_llm_config(config_id))

    async def rebuild_users_of_plugin(self, source: PluginSource, plugin_id: UUID) -> None:
        """The same for a row of the plugin catalogue."""
        await self._rebuild(await self._orchestrators.users_of_plugin(source, plugin_id))

    async def rebuild_affected(
        self, org_id: UUID | None, keys: Collection[str], before: CascadeOf, after: CascadeOf
    ) -> None:
        """The settings `keys` change in this transaction, of an organization or (None) of all: every instance whose
        effective configuration is another one after it gets a new hash and revision, and no other.

        Workers learn of these from the feed; the one event is that of the settings. Whoever calls this holds
        `lock_definitions`.
        """
        hashes: dict[UUID, str] = {}
        last: UUID | None = None
        while rows := await self._orchestrators.living(org_id, after=last, limit=CHUNK):
            last = rows[-1].id
            affected = [
                row for row in rows if is_other(Mode(row.mode), row.config, keys, before(row.org_id), after(row.org_id))
            ]
            for definition in await self._orchestrators.definitions(affected):
                with_settings = msgspec.structs.replace(definition, cascade=after(definition.row.org_id))
                hashes[definition.row.id] = with_settings.config_hash()
        if hashes:
            await next_revision(self._session)
            await self._orchestrators.revise_all(hashes)

    async def reprice_users_of(self, provider: Provider, model_name: str) -> None:
        """A price changed in this transaction: every instance whose calls may go to the model gets a new revision, and
        no other. Nothing is built from prices, so its hash stays.

        Workers learn of these from the feed; one event has them look. Whoever calls this holds `lock_definitions`.
        """
        hashes: dict[UUID, str] = {}
        last: UUID | None = None
        names = {provider, *(second for second, first in SAME_VENDOR.items() if first is provider)}
        while rows := await self._orchestrators.users_of_providers(names, after=last, limit=CHUNK):
            last = rows[-1].id
            for definition in await self._orchestrators.definitions(rows):
                if any((name, model_name) in definition.models() for name in names):
                    hashes[definition.row.id] = definition.row.config_hash
        if not hashes:
            return
        await next_revision(self._session)
        await self._orchestrators.revise_all(hashes)
        await record(
            self._session,
            GlobalSettingsChanged(
                event_id=new_id(),
                # Younger than those of the instances, so workers that hear of it look.
                revision=await next_revision(self._session),
                occurred_at=self._clock.now(),
                keys=("model_prices",),
            ),
        )

    async def retire_instances_of(self, org_id: UUID) -> None:
        """Soft-delete every instance of an organization that is being deleted, so that workers drop them.

        Whoever calls this holds `lock_definitions` of the organization.
        """
        for row in await self._orchestrators.not_deleted(org_id):
            row.is_deleted, row.status = True, "inactive"
            await self.bump(row, OrchestratorUnload, is_last=False)

    async def _rebuild(self, rows: Sequence[Orchestrator]) -> None:
        definitions = [await self._orchestrators.definition(row) for row in rows]
        # Each gets a revision of its own, or a page of the change feed could end between two equal ones.
        for definition in definitions:
            await self.save(definition, OrchestratorReload, is_last=False)
