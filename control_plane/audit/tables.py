from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified

PLATFORM = UUID(int=0)
"""Stands for the platform where an organization's id is asked for: its own chain has none."""


class AuditEntry(Identified, Base):
    """One change or refusal. The application's roles have no right to change it, and only retention deletes it.

    `hash` covers all of it and `previous_hash`, which is that of the entry before in the same chain.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        UniqueConstraint("org_id", "sequence", postgresql_nulls_not_distinct=True),
        Index("ix_audit_log_actor_id", "actor_id", "id"),
        Index("ix_audit_log_resource", "resource", postgresql_ops={"resource": "text_pattern_ops"}),
    )

    org_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    sequence: Mapped[int]
    at: Mapped[datetime]
    actor_id: Mapped[UUID]
    actor: Mapped[str]
    api_key_id: Mapped[UUID | None]
    address: Mapped[str]
    request_id: Mapped[str]
    method: Mapped[str]
    route: Mapped[str]
    resource: Mapped[str]
    refused_with: Mapped[int | None]
    changes: Mapped[list[dict[str, Any]]]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class AuditChain(Base):
    """Where a chain ends, so that its last entries cannot vanish unnoticed, and where it begins after retention."""

    __tablename__ = "audit_chains"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    hash: Mapped[str]
    pruned_sequence: Mapped[int] = mapped_column(default=0)
    pruned_hash: Mapped[str] = mapped_column(default="")
