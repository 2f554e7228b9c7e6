from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.database.base import Base, Identified, Revised, Timestamped


class Orchestrator(Identified, Timestamped, Revised, Base):
    """What an organization configured. `framework_type` and `mode` never change.

    `revision` and `config_hash` also move when something the instance is built from changes: a plugin, an llm_config.
    """

    __tablename__ = "orchestrator_instances"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended', 'inactive')", name="status"),
        CheckConstraint("tier IN ('hot', 'demand')", name="tier"),
        Index("ix_orchestrator_instances_revision", "revision"),
        Index(
            "uq_orchestrator_instances_name_living",
            "org_id",
            "name",
            unique=True,
            postgresql_where=text("NOT is_deleted AND status <> 'inactive'"),
        ),
    )

    org_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    framework_type: Mapped[str]
    mode: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    tier: Mapped[str] = mapped_column(default="demand")
    is_unloaded: Mapped[bool] = mapped_column(default=False)
    whoami: Mapped[str] = mapped_column(default="")
    config: Mapped[dict[str, Any]]
    plugin_settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    config_hash: Mapped[str]
    is_deleted: Mapped[bool] = mapped_column(default=False)


class OrchestratorPlugin(Base):
    """The plugins of an instance, in order. The foreign keys are what keeps a used plugin from being deleted."""

    __tablename__ = "orchestrator_plugins"
    __table_args__ = (
        CheckConstraint("(system_plugin_id IS NULL) <> (org_plugin_id IS NULL)", name="one_source"),
        Index("ix_orchestrator_plugins_system_plugin_id", "system_plugin_id"),
        Index("ix_orchestrator_plugins_org_plugin_id", "org_plugin_id"),
    )

    instance_id: Mapped[UUID] = mapped_column(
        ForeignKey("orchestrator_instances.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    system_plugin_id: Mapped[UUID | None] = mapped_column(ForeignKey("system_plugins.id"))
    org_plugin_id: Mapped[UUID | None] = mapped_column(ForeignKey("org_plugins.id"))


class OrchestratorLLMConfig(Base):
    """The llm_configs an instance refers to, by default or in a node override."""

    __tablename__ = "orchestrator_llm_configs"

    instance_id: Mapped[UUID] = mapped_column(
        ForeignKey("orchestrator_instances.id", ondelete="CASCADE"), primary_key=True
    )
    llm_config_id: Mapped[UUID] = mapped_column(ForeignKey("organization_llm_configs.id"), primary_key=True, index=True)
