"""The catalogue: what plugins there are, who may use which, and what becomes of them. Uploads are `uploads`."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.locks import lock_definitions
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.events.outbox import record
from control_plane.plugins.catalogue import CatalogueEntry, CatalogueRow, entry_of, version_order
from control_plane.plugins.repository import PluginFilter, PluginRepository
from control_plane.plugins.schemas import PluginPatch, SystemPluginPatch
from shared.clock import Clock
from shared.errors import FieldError, InUse, InvalidRequest
from shared.events import PluginChanged
from shared.ids import new_id, parse_id
from shared.snapshots import PluginSource

RebuildUsers = Callable[[PluginSource, UUID], Awaitable[None]]


class PluginService:
    """`rebuild_users` gives a new hash and revision to every instance that uses a row of the catalogue."""

    def __init__(
        self, *, session: AsyncSession, plugins: PluginRepository, rebuild_users: RebuildUsers, clock: Clock
    ) -> None:
        self._session = session
        self._rebuild_users = rebuild_users
        self._plugins = plugins
        self._clock = clock

    async def page(
        self, org_id: UUID | None, wanted: PluginFilter, *, after: UUID | None, limit: int
    ) -> Sequence[CatalogueRow]:
        return await self._plugins.page(org_id, wanted, after=after, limit=limit)

    async def get(self, org_id: UUID | None, plugin_id: UUID) -> CatalogueRow:
        """Raises PluginNotFound."""
        return await self._plugins.get(org_id, plugin_id)

    async def versions(self, org_id: UUID | None, pid: str) -> Sequence[CatalogueRow]:
        """Highest first; empty for a pid the organization does not see."""
        return await self._plugins.versions(org_id, pid)

    async def change(
        self, owner: UUID | None, plugin_id: UUID, patch: PluginPatch, *, if_match: str | None
    ) -> CatalogueRow:
        """Raises PluginNotFound, also for a row that is seen but belongs to the system, and StaleRevision."""
        is_about_trust = isinstance(patch, SystemPluginPatch) and patch.trusted is not UNSET
        if is_about_trust:
            await lock_definitions(self._session, None)
        row = await self._plugins.get_own(owner, plugin_id)
        require_match(if_match, row.revision)
        was_trusted = entry_of(row).trusted
        apply_patch(row, patch)
        row.revision = await next_revision(self._session)
        await self._plugins.flush()
        if is_about_trust and entry_of(row).trusted != was_trusted:
            # Where its code runs changes with it; everything else of a version that instances use never does.
            await self._rebuild_users("system", row.id)
        await self.announce(row)
        return row

    async def delete(self, owner: UUID | None, plugin_id: UUID, *, if_match: str | None) -> CatalogueRow:
        """Take a version nobody uses out of the catalogue; the row as it was. Its package goes after the commit.

        Raises PluginNotFound, StaleRevision, InUse.
        """
        seen = await self._plugins.get(owner, plugin_id)
        await self._plugins.lock_pid(owner, seen.pid)
        row = await self._plugins.get_own(owner, plugin_id)
        require_match(if_match, row.revision)
        if users := await self._plugins.used_by(row):
            raise InUse(f"used by {', '.join(users[:5])}{' and others' if len(users) > 5 else ''}")
        await self._plugins.delete(row)
        row.revision = await next_revision(self._session)
        await self.announce(row)
        return row

    async def announce(self, row: CatalogueRow) -> None:
        """Record `plugin.changed` for a row that has its new revision."""
        entry = entry_of(row)
        event = PluginChanged(
            event_id=new_id(),
            revision=row.revision,
            occurred_at=self._clock.now(),
            source=entry.source,
            pid=entry.pid,
            version=entry.version,
            digest=entry.digest,
            org_id=entry.org_id,
        )
        await record(self._session, event)

    async def resolve(
        self, org_id: UUID, refs: Sequence[str], *, field: str = "active_plugin_ids"
    ) -> list[CatalogueEntry]:
        """The versions that refs stand for, in their order: a row's id, `pid@version`, or `pid` (highest enabled one).

        They cannot be deleted until the transaction ends. Raises InvalidRequest naming every bad ref.
        """
        ids = {plugin_id for ref in refs if (plugin_id := parse_id(ref))}
        pids = {ref.partition("@")[0] for ref in refs}
        rows = await self._plugins.candidates(org_id, ids, pids)
        entries: list[CatalogueEntry] = []
        problems: list[FieldError] = []
        for i, ref in enumerate(refs):
            found = [entry_of(row) for row in rows if _is_meant(row, ref)]
            usable = [entry for entry in found if entry.enabled]
            if usable:
                # An organization's own plugin before a system one that took the same pid later.
                entries.append(max(usable, key=lambda e: (e.source == "org", version_order(e.version))))
            elif found:
                problems.append(FieldError(f"{field}[{i}]", "disabled", f"the plugin {ref} is disabled"))
            else:
                problems.append(FieldError(f"{field}[{i}]", "unknown", f"there is no plugin {ref}"))
        if problems:
            raise InvalidRequest("a plugin cannot be used", errors=tuple(problems))
        return entries


def _is_meant(row: CatalogueRow, ref: str) -> bool:
    pid, _, version = ref.partition("@")
    return str(row.id) == ref.lower() or (row.pid == pid and (not version or row.version == version))
