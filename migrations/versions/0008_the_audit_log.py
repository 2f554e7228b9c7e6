"""The audit log

Revision ID: 0008
Revises: 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import PLATFORM_ROLE, TENANT_ROLE, keep_tenants_apart

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("org_id", sa.UUID(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.UUID(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("refused_with", sa.BigInteger(), nullable=True),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_audit_log_org_id_organizations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sa.UniqueConstraint(
            "org_id", "sequence", name=op.f("uq_audit_log_org_id_sequence"), postgresql_nulls_not_distinct=True
        ),
    )
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor_id", "id"], unique=False)
    op.create_index(
        "ix_audit_log_resource",
        "audit_log",
        ["resource"],
        unique=False,
        postgresql_ops={"resource": "text_pattern_ops"},
    )
    op.create_table(
        "audit_chains",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("pruned_sequence", sa.BigInteger(), nullable=False),
        sa.Column("pruned_hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_audit_chains")),
    )
    keep_tenants_apart("audit_log")
    keep_tenants_apart("audit_chains")
    # What happened stays as it was written. Only retention, the platform's, deletes entries.
    op.execute(f"REVOKE UPDATE, DELETE ON audit_log FROM {TENANT_ROLE}")
    op.execute(f"REVOKE UPDATE ON audit_log FROM {PLATFORM_ROLE}")
    op.execute(f"REVOKE DELETE ON audit_chains FROM {TENANT_ROLE}, {PLATFORM_ROLE}")


def downgrade() -> None:
    op.drop_table("audit_chains")
    op.drop_table("audit_log")
