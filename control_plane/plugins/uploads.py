"""Uploads: a zip becomes a catalogue row, or is refused with every reason.

Bytes first, then the row: a crash in between leaves bytes that no row names, and the next upload of that version
overwrites them. While a version is being stored its pid is locked, so no two uploads write to the same key.
"""

import asyncio
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.revisions import next_revision
from control_plane.organizations.service import OrganizationService
from control_plane.plugins.catalogue import CatalogueRow, version_order
from control_plane.plugins.inspection import Inspector
from control_plane.plugins.report import Report
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.rules import default_problems, domain_problems, manifest_problems
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettings
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from shared.errors import FieldError, PluginRefused, PluginVersionExists
from shared.ids import new_id
from shared.packages import PackageStore, digest_of, package_key
from shared.packages.archive import read_package
from shared.snapshots import PluginManifest


class Upload(msgspec.Struct, frozen=True):
    """Who uploads what. `owner` is None for the system catalogue; only there `trusted` means anything."""

    owner: UUID | None
    data: bytes
    created_by: UUID
    tag: str | None = None
    trusted: bool = False


class InspectedPackage(msgspec.Struct, frozen=True):
    digest: str
    manifest: PluginManifest
    defaults: dict[str, object]


async def inspect_upload(data: bytes, inspector: Inspector) -> InspectedPackage:
    """Everything that needs no database, so that none is kept waiting. Raises BodyTooLarge, PluginRefused."""
    package = await asyncio.to_thread(read_package, data)
    digest = await asyncio.to_thread(digest_of, data)
    report: Report = await inspector.inspect(package, digest)
    if report.manifest is None or report.findings:
        raise _refused(report.findings or (FieldError("file", "inspection", "the plugin has no metadata"),))
    problems = [*manifest_problems(report.manifest), *default_problems(report.manifest, report.defaults)]
    if problems:
        raise _refused(tuple(problems))
    return InspectedPackage(digest, report.manifest, report.defaults)


class UploadService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        plugins: PluginRepository,
        catalogue: PluginService,
        organizations: OrganizationService,
        settings: PluginSettings,
        store: PackageStore,
        inspector: Inspector,
    ) -> None:
        self._session = session
        self._plugins = plugins
        self._catalogue = catalogue
        self._organizations = organizations
        self._settings = settings
        self._store = store
        self._inspector = inspector

    async def upload(self, upload: Upload) -> tuple[CatalogueRow, bool]:
        """The row, and whether it is new: the same bytes again change nothing.

        Raises BodyTooLarge, PluginRefused, PluginVersionExists, RateLimited, StoreUnavailable.
        """
        with self._inspector.admission(upload.owner):
            package = await inspect_upload(upload.data, self._inspector)
        manifest = package.manifest
        await self._check_owner(upload.owner, manifest.pid)
        await self._plugins.lock_pid(upload.owner, manifest.pid)
        for row in await self._plugins.own_versions(upload.owner, manifest.pid):
            if row.version == manifest.version and row.digest == package.digest:
                return row, False
            # 1.0 and 1.0.0 are one version to everybody who sorts them.
            if version_order(row.version) == version_order(manifest.version):
                raise PluginVersionExists(f"{manifest.pid}@{row.version} exists with other content; raise the version")
        row = self._row(upload, package)
        await self._store.put(row.package_key, upload.data)
        row.revision = await next_revision(self._session)
        await self._plugins.add(row)
        await self._catalogue.announce(row)
        return row, True

    async def _check_owner(self, owner: UUID | None, pid: str) -> None:
        if owner is None:
            return
        organization = await self._organizations.get(owner)
        problems = list(domain_problems(pid, organization.domain))
        if await self._plugins.is_system_pid(pid):
            problems.append(FieldError("pid", "taken", f"{pid} is a plugin of the system catalogue"))
        if problems:
            raise _refused(tuple(problems))

    def _row(self, upload: Upload, package: InspectedPackage) -> CatalogueRow:
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
            "default_settings": self._settings.sealed_defaults(
                "system" if upload.owner is None else "org", plugin_id, package.defaults, manifest.settings_schema
            ),
            "logo_url": None,
            "digest": package.digest,
            "size_bytes": len(upload.data),
            "package_key": package_key(upload.owner, manifest.pid, manifest.version),
            "created_by": upload.created_by,
        }
        if upload.owner is None:
            return SystemPlugin(**columns, trusted=upload.trusted)
        return OrgPlugin(**columns, org_id=upload.owner)

    async def purge(self, deleted: CatalogueRow) -> None:
        """Remove the package of a row whose deletion is committed, unless its version was uploaded again since."""
        owner = deleted.org_id if isinstance(deleted, OrgPlugin) else None
        await self._plugins.lock_pid(owner, deleted.pid)
        rows = await self._plugins.own_versions(owner, deleted.pid)
        if all(row.package_key != deleted.package_key for row in rows):
            await self._store.delete(deleted.package_key)


def _refused(reasons: tuple[FieldError, ...]) -> PluginRefused:
    return PluginRefused("; ".join(reason.message for reason in reasons)[:2000], errors=reasons)
