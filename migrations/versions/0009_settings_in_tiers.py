"""Settings in tiers

Revision ID: 0009
Revises: 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import TENANT_ROLE, keep_tenants_apart

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What an instance's stored `config` said of itself until now although nobody had said it. Nothing is lost: a value that
# equals the default counted as the default.
DEFAULTS = {"default_model_name": None, "default_temperature": None, "default_max_tokens": None}
MODE_DEFAULTS = {
    "node_execution_timeout": 60,
    "run_timeout": 300,
    "message_context_window": 5,
    "max_context_window": 16_000,
    "enabled_auto_compact": True,
    "enabled_suggestion": False,
    "max_agent_hops": 10,
    "max_tool_rounds": 3,
    "enabled_parallel_tool_calls": True,
    "enabled_llm_validation": False,
    "enabled_clarification_intent": True,
}


def upgrade() -> None:
    for table, owner in (("global_settings", ()), ("organization_settings", ("org_id",))):
        op.create_table(
            table,
            *(sa.Column(name, sa.UUID(), nullable=False) for name in owner),
            sa.Column("key", sa.String(), nullable=False),
            sa.Column("value", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
            sa.Column("is_overridable", sa.Boolean(), nullable=False),
            sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
            sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
            sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
            *(
                sa.ForeignKeyConstraint([name], ["organizations.id"], name=op.f(f"fk_{table}_{name}_organizations"))
                for name in owner
            ),
            sa.PrimaryKeyConstraint(*owner, "key", name=op.f(f"pk_{table}")),
        )
    keep_tenants_apart("organization_settings")
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON global_settings FROM {TENANT_ROLE}")
    _keep_what_was_given()


def downgrade() -> None:
    # A `config` without the defaults is read as if it had them.
    op.drop_table("organization_settings")
    op.drop_table("global_settings")


def _keep_what_was_given() -> None:
    instances = sa.table("orchestrator_instances", sa.column("id", sa.UUID()), sa.column("config", postgresql.JSONB()))
    connection = op.get_bind()
    for instance_id, config in connection.execute(sa.select(instances.c.id, instances.c.config)).all():
        given = {key: value for key, value in config.items() if key not in DEFAULTS or value is not None}
        given["mode_config"] = {
            key: value
            for key, value in config.get("mode_config", {}).items()
            # An override of a node that overrides nothing is an empty object.
            if value != MODE_DEFAULTS.get(key) and value != {}
        }
        if given.get("conversation_starters") == []:
            del given["conversation_starters"]
        connection.execute(sa.update(instances).where(instances.c.id == instance_id).values(config=given))
