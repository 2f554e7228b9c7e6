"""The first tables

Revision ID: 0001
Revises:
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE revision_seq")
    op.create_table(
        "organizations",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=True),
        sa.Column("domain", sa.String(), nullable=True),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("contact_email", sa.String(), nullable=True),
        sa.Column("website", sa.String(), nullable=True),
        sa.Column("logo_url", sa.String(), nullable=True),
        sa.Column("country", sa.String(), nullable=True),
        sa.Column("timezone", sa.String(), nullable=True),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'suspended')", name=op.f("ck_organizations_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
    )
    op.create_index(
        "uq_organizations_domain_living",
        "organizations",
        ["domain"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_table(
        "outbox",
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("routing_key", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    op.create_index(
        "ix_outbox_unpublished", "outbox", ["sequence"], unique=False, postgresql_where=sa.text("published_at IS NULL")
    )
    op.create_table(
        "provider_models",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("display_name", sa.String(), nullable=True),
        sa.Column("context_window", sa.BigInteger(), nullable=True),
        sa.Column("input_price", sa.Numeric(precision=12, scale=6), nullable=True),
        sa.Column("output_price", sa.Numeric(precision=12, scale=6), nullable=True),
        sa.Column("cached_price", sa.Numeric(precision=12, scale=6), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_models")),
        sa.UniqueConstraint("provider", "model_name", name=op.f("uq_provider_models_provider_model_name")),
    )
    op.create_table(
        "users",
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("display_name", sa.String(), nullable=True),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("is_sys_admin", sa.Boolean(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index(
        "uq_users_email_living",
        "users",
        [sa.literal_column("lower(email)")],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted AND email IS NOT NULL"),
    )
    op.create_index(
        "uq_users_username_living",
        "users",
        [sa.literal_column("lower(username)")],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_table(
        "orchestrator_instances",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("framework_type", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=False),
        sa.Column("is_unloaded", sa.Boolean(), nullable=False),
        sa.Column("whoami", sa.String(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("plugin_settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("config_hash", sa.String(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'suspended', 'inactive')", name=op.f("ck_orchestrator_instances_status")
        ),
        sa.CheckConstraint("tier IN ('hot', 'demand')", name=op.f("ck_orchestrator_instances_tier")),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organizations.id"], name=op.f("fk_orchestrator_instances_org_id_organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orchestrator_instances")),
    )
    op.create_index(op.f("ix_orchestrator_instances_org_id"), "orchestrator_instances", ["org_id"], unique=False)
    op.create_index("ix_orchestrator_instances_revision", "orchestrator_instances", ["revision"], unique=False)
    op.create_index(
        "uq_orchestrator_instances_name_living",
        "orchestrator_instances",
        ["org_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted AND status <> 'inactive'"),
    )
    op.create_table(
        "org_plugins",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("pid", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=True),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("default_settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("logo_url", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("package_key", sa.String(), nullable=False),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_org_plugins_created_by_users"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_org_plugins_org_id_organizations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_org_plugins")),
        sa.UniqueConstraint("org_id", "pid", "version", name=op.f("uq_org_plugins_org_id_pid_version")),
    )
    op.create_index(
        "uq_org_plugins_latest", "org_plugins", ["org_id", "pid"], unique=True, postgresql_where=sa.text("is_latest")
    )
    op.create_table(
        "organization_llm_configs",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=True),
        sa.Column("base_url", sa.String(), nullable=True),
        sa.Column("additional_config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sealed_api_key", sa.String(), nullable=False),
        sa.Column("key_fingerprint", sa.String(), nullable=False),
        sa.Column("key_last4", sa.String(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organizations.id"], name=op.f("fk_organization_llm_configs_org_id_organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization_llm_configs")),
    )
    op.create_index(op.f("ix_organization_llm_configs_org_id"), "organization_llm_configs", ["org_id"], unique=False)
    op.create_index(
        "uq_organization_llm_configs_name_living",
        "organization_llm_configs",
        ["org_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.create_table(
        "system_plugins",
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("pid", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("tag", sa.String(), nullable=True),
        sa.Column("is_latest", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("default_settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("logo_url", sa.String(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("package_key", sa.String(), nullable=False),
        sa.Column("created_by", sa.UUID(), nullable=True),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_system_plugins_created_by_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_system_plugins")),
        sa.UniqueConstraint("pid", "version", name=op.f("uq_system_plugins_pid_version")),
    )
    op.create_index(
        "uq_system_plugins_latest", "system_plugins", ["pid"], unique=True, postgresql_where=sa.text("is_latest")
    )
    op.create_table(
        "user_org_memberships",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.id"],
            name=op.f("fk_user_org_memberships_org_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_org_memberships_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "org_id", name=op.f("pk_user_org_memberships")),
    )
    op.create_index(op.f("ix_user_org_memberships_org_id"), "user_org_memberships", ["org_id"], unique=False)
    op.create_table(
        "orchestrator_llm_configs",
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("llm_config_id", sa.UUID(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["orchestrator_instances.id"],
            name=op.f("fk_orchestrator_llm_configs_instance_id_orchestrator_instances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["llm_config_id"],
            ["organization_llm_configs.id"],
            name=op.f("fk_orchestrator_llm_configs_llm_config_id_organization_llm_configs"),
        ),
        sa.PrimaryKeyConstraint("instance_id", "llm_config_id", name=op.f("pk_orchestrator_llm_configs")),
    )
    op.create_index(
        op.f("ix_orchestrator_llm_configs_llm_config_id"), "orchestrator_llm_configs", ["llm_config_id"], unique=False
    )
    op.create_table(
        "orchestrator_plugins",
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("system_plugin_id", sa.UUID(), nullable=True),
        sa.Column("org_plugin_id", sa.UUID(), nullable=True),
        sa.CheckConstraint(
            "(system_plugin_id IS NULL) <> (org_plugin_id IS NULL)", name=op.f("ck_orchestrator_plugins_one_source")
        ),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["orchestrator_instances.id"],
            name=op.f("fk_orchestrator_plugins_instance_id_orchestrator_instances"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_plugin_id"], ["org_plugins.id"], name=op.f("fk_orchestrator_plugins_org_plugin_id_org_plugins")
        ),
        sa.ForeignKeyConstraint(
            ["system_plugin_id"],
            ["system_plugins.id"],
            name=op.f("fk_orchestrator_plugins_system_plugin_id_system_plugins"),
        ),
        sa.PrimaryKeyConstraint("instance_id", "position", name=op.f("pk_orchestrator_plugins")),
    )
    op.create_index("ix_orchestrator_plugins_org_plugin_id", "orchestrator_plugins", ["org_plugin_id"], unique=False)
    op.create_index(
        "ix_orchestrator_plugins_system_plugin_id", "orchestrator_plugins", ["system_plugin_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_orchestrator_plugins_system_plugin_id", table_name="orchestrator_plugins")
    op.drop_index("ix_orchestrator_plugins_org_plugin_id", table_name="orchestrator_plugins")
    op.drop_table("orchestrator_plugins")
    op.drop_index(op.f("ix_orchestrator_llm_configs_llm_config_id"), table_name="orchestrator_llm_configs")
    op.drop_table("orchestrator_llm_configs")
    op.drop_index(op.f("ix_user_org_memberships_org_id"), table_name="user_org_memberships")
    op.drop_table("user_org_memberships")
    op.drop_index("uq_system_plugins_latest", table_name="system_plugins", postgresql_where=sa.text("is_latest"))
    op.drop_table("system_plugins")
    op.drop_index(
        "uq_organization_llm_configs_name_living",
        table_name="organization_llm_configs",
        postgresql_where=sa.text("NOT is_deleted"),
    )
    op.drop_index(op.f("ix_organization_llm_configs_org_id"), table_name="organization_llm_configs")
    op.drop_table("organization_llm_configs")
    op.drop_index("uq_org_plugins_latest", table_name="org_plugins", postgresql_where=sa.text("is_latest"))
    op.drop_table("org_plugins")
    op.drop_index(
        "uq_orchestrator_instances_name_living",
        table_name="orchestrator_instances",
        postgresql_where=sa.text("NOT is_deleted AND status <> 'inactive'"),
    )
    op.drop_index("ix_orchestrator_instances_revision", table_name="orchestrator_instances")
    op.drop_index(op.f("ix_orchestrator_instances_org_id"), table_name="orchestrator_instances")
    op.drop_table("orchestrator_instances")
    op.drop_index("uq_users_username_living", table_name="users", postgresql_where=sa.text("NOT is_deleted"))
    op.drop_index(
        "uq_users_email_living", table_name="users", postgresql_where=sa.text("NOT is_deleted AND email IS NOT NULL")
    )
    op.drop_table("users")
    op.drop_table("provider_models")
    op.drop_index("ix_outbox_unpublished", table_name="outbox", postgresql_where=sa.text("published_at IS NULL"))
    op.drop_table("outbox")
    op.drop_index(
        "uq_organizations_domain_living", table_name="organizations", postgresql_where=sa.text("NOT is_deleted")
    )
    op.drop_table("organizations")
    op.execute("DROP SEQUENCE revision_seq")
