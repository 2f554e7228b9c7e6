"""Logos of plugins: where they are, and what is there. They stay in the packages, which are verified when read."""

import asyncio
from uuid import UUID

from control_plane.plugins.catalogue import CatalogueRow
from shared.errors import NotFound
from shared.packages import PackageStore
from shared.packages.archive import read_package
from shared.packages.logos import LOGO_NAME


def logo_url(seen_by: UUID | None, plugin_id: UUID) -> str:
    """The path at which a viewer finds a logo: an organization, or None for the system's administrators."""
    catalogue = f"/api/orgs/{seen_by}/plugins" if seen_by else "/api/admin/plugins"
    return f"{catalogue}/{plugin_id}/logo"


async def read_logo(store: PackageStore, row: CatalogueRow) -> bytes:
    """Raises NotFound for a plugin without one, PluginLoadFailed, StoreUnavailable."""
    if row.logo_url is None:
        raise NotFound("the plugin has no logo")
    data = await store.get(row.package_key, digest=row.digest)
    return (await asyncio.to_thread(read_package, data)).files[LOGO_NAME]
