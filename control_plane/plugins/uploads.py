"""Uploads: a zip becomes a catalogue row, or is refused with every reason.

Bytes first, then the row: a crash in between leaves bytes that no row names, and the next upload of that version
overwrites them. While a version is being stored its pid is locked, so no two uploads write to the same key.
"""

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.revisions import next_revision
from control_plane.organizations.service import OrganizationService
from control_plane.plugins.catalogue import CatalogueRow, version_order
from control_plane.plugins.logos import logo_url
from control_plane.plugins.ownership import check_owner
from control_plane.plugins.pending import Upload
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettings, PluginSettingsOf
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from control_plane.tiers.quota import Quota
from shared.errors import PluginVersionExists
from shared.ids import new_id
from shared.packages import PackageStore, package_key
from shared.packages.inspection.preparation import PreparedPackage


class UploadService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        plugins: PluginRepository,
        catalogue: PluginService,
        organizations: OrganizationService,
        settings: PluginSettingsOf,
        store: PackageStore,
        quota: Quota,
    ) -> None:
        self._session = session
        self._plugins = plugins
        self._catalogue = catalogue
        self._organizations = organizations
        self._settings = settings
        self._store = store
        self._quota = quota

    async def register(self, upload: Upload, package: PreparedPackage) -> tuple[CatalogueRow, bool]:
        """The row of an upload that was prepared, and whether it is new: the same bytes again change nothing.

        Raises PluginRefused, PluginVersionExists, StoreUnavailable, QuotaReached.
        """
        manifest = package.manifest
        await check_owner(upload.owner, manifest.pid, self._organizations, self._plugins)
        await self._plugins.lock_pid(upload.owner, manifest.pid)
        versions = await self._plugins.own_versions(upload.owner, manifest.pid)
        for row in versions:
            if row.version == manifest.version and row.digest == package.digest:
                return row, False
            # 1.0 and 1.0.0 are one version to everybody who sorts them.
            if version_order(row.version) == version_order(manifest.version):
                raise PluginVersionExists(f"{manifest.pid}@{row.version} exists with other content; raise the version")
        if upload.owner is not None and not versions:
            await self._quota.check("plugins", upload.owner)
        row = self._row(upload, package, await self._settings(upload.owner))
        await self._store.put(row.package_key, upload.data)
        row.revision = await next_revision(self._session)
        await self._plugins.add(row)
        await self._catalogue.announce(row)
        return row, True

    def _row(self, upload: Upload, package: PreparedPackage, settings: PluginSettings) -> CatalogueRow:
        manifest, plugin_id = package.manifest, new_id()
        columns = {
            "id": plugin_id,
            "pid": manifest.pid,
            "version": manifest.version,
            "name": manifest.name,
            "description": manifest.description,
            "tag": upload.tag,
            "is_latest": False,
            "enabled": True,
            "manifest": msgspec.to_builtins(manifest),
            "default_settings": settings.sealed_defaults(
                "system" if upload.owner is None else "org", plugin_id, package.defaults, manifest.settings_schema
            ),
            "logo_url": logo_url(upload.owner, plugin_id) if package.has_logo else None,
            "digest": package.digest,
            "size_bytes": len(upload.data),
            "lock": package.lock,
            "package_key": package_key(upload.owner, manifest.pid, manifest.version),
            "created_by": upload.created_by,
        }
        if upload.owner is None:
            return SystemPlugin(**columns, trusted=upload.trusted)
        return OrgPlugin(**columns, org_id=upload.owner)

    async def purge(self, deleted: CatalogueRow) -> None:
        """Remove the package of a row whose deletion is committed, unless its version was uploaded again since."""
        if not deleted.package_key:
            return
        owner = deleted.org_id if isinstance(deleted, OrgPlugin) else None
        await self._plugins.lock_pid(owner, deleted.pid)
        rows = await self._plugins.own_versions(owner, deleted.pid)
        if all(row.package_key != deleted.package_key for row in rows):
            await self._store.delete(deleted.package_key)
