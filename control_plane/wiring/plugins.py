"""Plugins, however they come: uploads, directories and MCP servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from litestar.di import NamedDependency
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.commits import commit
from control_plane.plugins.catalogue import CatalogueRow
from control_plane.plugins.directories import DirectoryPlugin, DirectoryPlugins
from control_plane.plugins.mcp import MCPPlugins
from control_plane.plugins.pending import Upload
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettings, PluginSettingsOf
from control_plane.plugins.uploads import UploadService
from control_plane.wiring.access import provide_organizations
from control_plane.wiring.definitions import data_keys, definition_saver
from control_plane.wiring.resources import Resources
from control_plane.wiring.tiers import provide_quota
from shared.errors import StoreUnavailable
from shared.logging import get_logger
from shared.packages.inspection.preparation import PreparedPackage
from shared.settings import DirectoryPluginSettings

log = get_logger(__name__)


def plugin_settings(session: AsyncSession, resources: Resources) -> PluginSettingsOf:
    async def of(owner: UUID | None) -> PluginSettings:
        return PluginSettings(await data_keys(session, resources).sealing(owner))

    return of


def provide_plugins(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> PluginService:
    return PluginService(
        session=session,
        plugins=PluginRepository(session),
        rebuild_users=definition_saver(session, resources).rebuild_users_of_plugin,
        clock=resources.clock,
    )


def provide_plugin_uploads(
    session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]
) -> UploadService:
    return UploadService(
        session=session,
        plugins=PluginRepository(session),
        catalogue=provide_plugins(session, resources),
        organizations=provide_organizations(session, resources),
        settings=plugin_settings(session, resources),
        store=resources.packages,
        quota=provide_quota(session),
    )


def provide_mcp_plugins(session: NamedDependency[AsyncSession], resources: NamedDependency[Resources]) -> MCPPlugins:
    return MCPPlugins(
        session=session,
        plugins=PluginRepository(session),
        catalogue=provide_plugins(session, resources),
        organizations=provide_organizations(session, resources),
        settings=plugin_settings(session, resources),
        discovery=resources.mcp_discovery,
        allow_private=resources.settings.allow_private_model_hosts,
        quota=provide_quota(session),
    )


def directory_plugins(resources: Resources, settings: DirectoryPluginSettings) -> DirectoryPlugins:
    return DirectoryPlugins(
        settings, resources.preparation, partial(register_upload, resources), partial(is_registered, resources)
    )


@asynccontextmanager
async def registering_directories(resources: Resources) -> AsyncIterator[None]:
    """What lies in the plugin directories of the settings comes into the catalogue meanwhile."""
    if (directories := resources.settings.directory_plugins) is None:
        yield
        return
    # It ends by itself when all of them are there.
    registering = asyncio.create_task(directory_plugins(resources, directories).run())
    try:
        yield
    finally:
        registering.cancel()
        await asyncio.gather(registering, return_exceptions=True)


async def is_registered(resources: Resources, plugin: DirectoryPlugin, digest: str) -> bool:
    async with resources.database(plugin.owner) as session:
        rows = await PluginRepository(session).own_versions(plugin.owner, plugin.pid)
    return any(row.version == plugin.version and row.digest == digest for row in rows)


async def register_upload(resources: Resources, upload: Upload, package: PreparedPackage) -> UUID:
    """Store an upload that no request waits for any more; the id of its row."""
    async with resources.database(upload.owner) as session:
        row, _ = await provide_plugin_uploads(session, resources).register(upload, package)
        await commit(session)
        return row.id


async def purge_package(resources: Resources, deleted: CatalogueRow) -> None:
    """Remove the package of a catalogue row whose deletion is committed. Bytes left behind harm nobody."""
    try:
        async with resources.database() as session:
            await provide_plugin_uploads(session, resources).purge(deleted)
    except (StoreUnavailable, OSError, SQLAlchemyError) as error:
        log.warning("package_not_purged", package_key=deleted.package_key, reason=type(error).__name__)
