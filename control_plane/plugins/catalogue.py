"""A catalogue row as the rest of the control plane knows it, whichever of the two tables it is in."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from packaging.version import InvalidVersion, Version

from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from shared.snapshots import MCPServer, PluginKind, PluginManifest, PluginSource

CatalogueRow = SystemPlugin | OrgPlugin


class CatalogueEntry(msgspec.Struct, frozen=True):
    """One version of one plugin, as an instance may use it. `org_id` is None for a system plugin.

    `default_settings` holds the author's defaults, sensitive ones sealed.
    """

    id: UUID
    source: PluginSource
    org_id: UUID | None
    pid: str
    version: str
    digest: str
    package_key: str
    manifest: PluginManifest
    default_settings: dict[str, Any]
    enabled: bool
    is_latest: bool
    trusted: bool
    lock: str = ""
    kind: PluginKind = "code"
    mcp: MCPServer | None = None

    @property
    def key(self) -> str:
        """`<source>:<pid>@<version>`: where an instance's `plugin_settings` for it are kept."""
        return f"{self.source}:{self.pid}@{self.version}"


STORED = (
    "id",
    "pid",
    "version",
    "digest",
    "package_key",
    "default_settings",
    "enabled",
    "is_latest",
    "lock",
    "manifest",
    "kind",
    "mcp",
)
"""The columns that both tables have and an entry is made of."""


def entry_of(row: CatalogueRow) -> CatalogueEntry:
    return entry_of_values(
        source_of(row),
        row.org_id if isinstance(row, OrgPlugin) else None,
        isinstance(row, SystemPlugin) and row.trusted,
        [getattr(row, name) for name in STORED],
    )


def entry_of_values(source: str, org_id: UUID | None, trusted: bool, stored: Sequence[Any]) -> CatalogueEntry:
    """The same of what was read without a row. `stored` are the values of STORED."""
    *plain, manifest, kind, mcp = stored
    return CatalogueEntry(
        **dict(zip(STORED, plain, strict=False)),
        source=msgspec.convert(source, PluginSource),
        org_id=org_id,
        manifest=msgspec.convert(manifest, PluginManifest),
        trusted=trusted,
        kind=msgspec.convert(kind, PluginKind),
        mcp=msgspec.convert(mcp, MCPServer | None),
    )


def source_of(row: CatalogueRow) -> PluginSource:
    return "org" if isinstance(row, OrgPlugin) else "system"


def manifest_of(row: CatalogueRow) -> PluginManifest:
    return msgspec.convert(row.manifest, PluginManifest)


def version_order(version: str) -> tuple[int, Version]:
    """Sorts by PEP 440; anything else comes first. What is stored was checked, so that is for refs of callers."""
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, Version("0")
