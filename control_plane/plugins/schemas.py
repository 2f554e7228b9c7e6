from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from control_plane.plugins.catalogue import CatalogueRow, entry_of
from control_plane.plugins.logos import logo_url
from control_plane.plugins.pending import PendingUpload, UploadState
from control_plane.plugins.settings import MASK, masked
from shared.problems import Problem
from shared.snapshots import MCPServer, PluginKind, PluginSource, ToolDescription

Tag = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$(?!\n)")]


class PluginPatch(msgspec.Struct, forbid_unknown_fields=True):
    """A disabled plugin cannot be chosen any more; instances that use it keep it. null takes the tag away."""

    enabled: bool | UnsetType = UNSET
    tag: Tag | UnsetType | None = UNSET


class SystemPluginPatch(PluginPatch, forbid_unknown_fields=True):
    """`trusted` lets the plugin run inside worker processes instead of one of its own."""

    trusted: bool | UnsetType = UNSET


class PluginView(msgspec.Struct):
    """One version of a plugin. Sensitive defaults are shown as `"***"`. `mcp` is an organization's own server."""

    id: UUID
    pid: str
    version: str
    name: str
    description: str
    tag: str | None
    source: PluginSource
    kind: PluginKind
    is_latest: bool
    enabled: bool
    trusted: bool
    capabilities: tuple[str, ...]
    is_specialized: bool
    is_scoped: bool
    stateless: bool
    dependencies: tuple[str, ...]
    tools: tuple[ToolDescription, ...]
    default_settings: dict[str, Any]
    settings_schema: tuple[dict[str, Any], ...]
    logo_url: str | None
    digest: str
    size_bytes: int
    created_at: datetime
    created_by: UUID | None
    mcp: MCPServer | None = None

    @classmethod
    def of(cls, row: CatalogueRow, seen_by: UUID | None = None) -> Self:
        """As an organization sees it; without one, as the system's administrators do."""
        entry = entry_of(row)
        manifest = entry.manifest
        return cls(
            id=row.id,
            pid=row.pid,
            version=row.version,
            name=row.name,
            description=row.description,
            tag=row.tag,
            source=entry.source,
            kind=entry.kind,
            is_latest=row.is_latest,
            enabled=row.enabled,
            trusted=entry.trusted,
            capabilities=manifest.capabilities,
            is_specialized=manifest.is_specialized,
            is_scoped=manifest.is_scoped,
            stateless=manifest.stateless,
            dependencies=manifest.requires,
            tools=manifest.tools,
            default_settings=masked(row.default_settings),
            settings_schema=_shown_schema(row),
            logo_url=logo_url(seen_by, row.id) if row.logo_url else None,
            digest=row.digest,
            size_bytes=row.size_bytes,
            created_at=row.created_at,
            created_by=row.created_by,
            # Where a system plugin's server is, is nothing to tell tenants.
            mcp=entry.mcp if entry.source == "org" else None,
        )


class SettingsSchemaView(msgspec.Struct):
    """The settings of one version; `key` is where an instance's `plugin_settings` has their values."""

    plugin_id: UUID
    key: str
    settings: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, row: CatalogueRow) -> Self:
        return cls(row.id, entry_of(row).key, _shown_schema(row))


class UploadView(msgspec.Struct):
    """An upload that outlived its request: `running`, `done` with the plugin, or `failed` with the problem."""

    upload_id: UUID
    state: UploadState
    plugin: PluginView | None
    problem: Problem | None

    @classmethod
    def of(cls, pending: PendingUpload, row: CatalogueRow | None = None, seen_by: UUID | None = None) -> Self:
        plugin = PluginView.of(row, seen_by) if row else None
        return cls(pending.upload_id, pending.state, plugin, pending.problem)


def _shown_schema(row: CatalogueRow) -> tuple[dict[str, Any], ...]:
    """Entries with their default; that a sensitive one has a default is shown, the default is not."""
    return tuple(
        {**setting, "default": MASK} if setting.get("sensitive") and setting["key"] in row.default_settings else setting
        for setting in entry_of(row).manifest.settings_schema
    )
