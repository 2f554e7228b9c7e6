"""MCP servers as plugins: a server that answers becomes a catalogue row without a package."""

import hashlib
from collections.abc import Iterator
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.revisions import next_revision
from control_plane.organizations.service import OrganizationService
from control_plane.plugins.catalogue import CatalogueRow, version_order
from control_plane.plugins.mcp_discovery import MCPDiscovery
from control_plane.plugins.mcp_schemas import MCPServerBody
from control_plane.plugins.ownership import check_owner
from control_plane.plugins.repository import PluginRepository
from control_plane.plugins.service import PluginService
from control_plane.plugins.settings import PluginSettings, PluginSettingsOf
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from control_plane.tiers.quota import Quota
from shared.config_hash import canonical_json
from shared.errors import FieldError, MCPServerUnavailable, PluginVersionExists
from shared.ids import new_id
from shared.mcp.rules import HEADERS, header_problems, settings_schema
from shared.packages.inspection.preparation import refused
from shared.packages.inspection.rules import manifest_problems
from shared.security.addresses import url_problem
from shared.snapshots import MCPServer, PluginManifest


class MCPPlugins:
    def __init__(
        self,
        *,
        session: AsyncSession,
        plugins: PluginRepository,
        catalogue: PluginService,
        organizations: OrganizationService,
        settings: PluginSettingsOf,
        discovery: MCPDiscovery,
        allow_private: bool,
        quota: Quota,
    ) -> None:
        self._session = session
        self._plugins = plugins
        self._catalogue = catalogue
        self._organizations = organizations
        self._settings = settings
        self._discovery = discovery
        self._allow_private = allow_private
        self._quota = quota

    async def register(self, owner: UUID | None, body: MCPServerBody, created_by: UUID) -> CatalogueRow:
        """A new version of a plugin; `owner` is None for the system's.

        Raises PluginRefused, PluginVersionExists, QuotaReached.
        """
        server, manifest = await self._described(owner, body)
        await check_owner(owner, manifest.pid, self._organizations, self._plugins)
        await self._plugins.lock_pid(owner, manifest.pid)
        versions = await self._plugins.own_versions(owner, manifest.pid)
        for row in versions:
            if version_order(row.version) == version_order(manifest.version):
                raise PluginVersionExists(f"{manifest.pid}@{row.version} exists; raise the version")
        if owner is not None and not versions:
            await self._quota.check("plugins", owner)
        row = self._row(owner, body, server, manifest, created_by, await self._settings(owner))
        row.revision = await next_revision(self._session)
        await self._plugins.add(row)
        await self._catalogue.announce(row)
        return row

    async def _described(self, owner: UUID | None, body: MCPServerBody) -> tuple[MCPServer, PluginManifest]:
        """Everything that needs no database, so that none is kept waiting for somebody's server."""
        server = MCPServer(
            transport=body.transport,
            url=body.url or "",
            command=body.command or "",
            args=tuple(body.args),
            tool_allow_list=None if body.tool_allow_list is None else tuple(body.tool_allow_list),
        )
        manifest = PluginManifest(
            body.pid, body.version, body.name, body.description, settings_schema=settings_schema(server)
        )
        problems = [*_server_problems(body, owner, allow_private=self._allow_private), *manifest_problems(manifest)]
        if problems:
            raise refused(tuple(problems))
        field = "url" if server.transport == "streamable_http" else "command"
        try:
            tools = await self._discovery.tools(server, body.headers)
        except MCPServerUnavailable as error:
            raise refused((FieldError(field, "unusable", error.detail),)) from None
        if missing := set(server.tool_allow_list or ()) - {tool.name for tool in tools}:
            raise refused(
                (FieldError("tool_allow_list", "unknown", f"the server has no {', '.join(sorted(missing))}"),)
            )
        if not tools:
            raise refused((FieldError(field, "no_tools", "the server has no tools"),))
        if b"\\u0000" in msgspec.json.encode(tools):
            raise refused((FieldError(field, "characters", "a tool is described with the NUL character"),))
        return server, msgspec.structs.replace(manifest, tools=tools)

    def _row(
        self,
        owner: UUID | None,
        body: MCPServerBody,
        server: MCPServer,
        manifest: PluginManifest,
        created_by: UUID,
        settings: PluginSettings,
    ) -> CatalogueRow:
        plugin_id = new_id()
        defaults = {HEADERS: body.headers} if body.headers else {}
        columns = {
            "id": plugin_id,
            "pid": manifest.pid,
            "version": manifest.version,
            "name": manifest.name,
            "description": manifest.description,
            "tag": body.tag,
            "is_latest": False,
            "enabled": True,
            "manifest": msgspec.to_builtins(manifest),
            "default_settings": settings.sealed_defaults(
                "system" if owner is None else "org", plugin_id, defaults, manifest.settings_schema
            ),
            "logo_url": None,
            "digest": hashlib.sha256(canonical_json(server)).hexdigest(),
            "size_bytes": 0,
            "package_key": "",
            "created_by": created_by,
            "kind": "mcp",
            "mcp": msgspec.to_builtins(server),
        }
        return SystemPlugin(**columns) if owner is None else OrgPlugin(**columns, org_id=owner)


def _server_problems(body: MCPServerBody, owner: UUID | None, *, allow_private: bool) -> Iterator[FieldError]:
    if body.transport == "stdio":
        if owner is not None:
            yield FieldError("transport", "forbidden", "only a system plugin may start a command; use streamable_http")
        if not body.command:
            yield FieldError("command", "required", "a stdio server needs the command that starts it")
        for name, is_given in (("url", bool(body.url)), ("headers", bool(body.headers))):
            if is_given:
                yield FieldError(name, "unused", f"a stdio server has no {name}")
        return
    if not body.url:
        yield FieldError("url", "required", "a server over HTTP needs its url")
    elif problem := url_problem(body.url, allow_private=allow_private):
        yield FieldError("url", "address", f"url {problem}")
    for name, is_given in (("command", bool(body.command)), ("args", bool(body.args))):
        if is_given:
            yield FieldError(name, "unused", f"a server over HTTP has no {name}")
    for problem in header_problems(body.headers):
        yield FieldError("headers", "invalid", problem)
