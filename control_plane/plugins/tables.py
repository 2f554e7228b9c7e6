from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped


class _CatalogueRow(Identified, Timestamped, Revised):
    """One version of one plugin. `manifest` is a `shared.snapshots.PluginManifest`, `digest` the SHA-256 of the zip.

    `logo_url` is where its owner finds the logo of its package, if that has one (`logos.logo_url`).
    `lock` pins the packages it depends on (`shared.packages.locks`), "" when there are none.
    A row of the kind `mcp` has no package but, in `mcp`, a `shared.snapshots.MCPServer`, and the digest is of that.
    """

    pid: Mapped[str]
    version: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    tag: Mapped[str | None]
    is_latest: Mapped[bool] = mapped_column(default=False)
    enabled: Mapped[bool] = mapped_column(default=True)
    manifest: Mapped[dict[str, Any]]
    default_settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    logo_url: Mapped[str | None]
    digest: Mapped[str]
    size_bytes: Mapped[int]
    package_key: Mapped[str]
    lock: Mapped[str] = mapped_column(default="", server_default="")
    kind: Mapped[str] = mapped_column(default="code", server_default="code")
    mcp: Mapped[dict[str, Any] | None]

    @declared_attr
    def created_by(cls) -> Mapped[UUID | None]:  # noqa: N805 - declared_attr methods get the class
        return mapped_column(ForeignKey("users.id", ondelete="SET NULL"))


class SystemPlugin(_CatalogueRow, Base):
    """Uploaded by a sys_admin, visible to every organization. Only a `trusted` one may run inside a worker process."""

    __tablename__ = "system_plugins"
    __table_args__ = (
        UniqueConstraint("pid", "version"),
        Index("uq_system_plugins_latest", "pid", unique=True, postgresql_where=text("is_latest")),
    )

    trusted: Mapped[bool] = mapped_column(default=False)


class OrgPlugin(_CatalogueRow, Base):
    """Uploaded by an organization, visible to it alone."""

    __tablename__ = "org_plugins"
    __table_args__ = (
        UniqueConstraint("org_id", "pid", "version"),
        Index("uq_org_plugins_latest", "org_id", "pid", unique=True, postgresql_where=text("is_latest")),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
