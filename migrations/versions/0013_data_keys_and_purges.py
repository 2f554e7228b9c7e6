"""A data key for each organization, and purges of deleted ones

Revision ID: 0013
Revises: 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.tenancy import PLATFORM_ROLE, TENANT_ROLE, keep_tenants_apart

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column("org_id", sa.UUID(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("wrapped_key", sa.String(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_data_keys_org_id_organizations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
        sa.UniqueConstraint(
            "org_id", "generation", name=op.f("uq_data_keys_org_id_generation"), postgresql_nulls_not_distinct=True
        ),
    )
    # The platform's own keys have no organization, and no organization sees them.
    keep_tenants_apart("data_keys")

    op.create_table(
        "organization_purges",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("let_go_by", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("is_dropped", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_organization_purges")),
    )
    keep_tenants_apart("organization_purges")
    op.execute(f"REVOKE ALL ON organization_purges FROM {TENANT_ROLE}")
    # The end of a chain of the audit log goes with its organization, and in no other case.
    op.execute(f"GRANT DELETE ON audit_chains TO {PLATFORM_ROLE}")
    op.execute(f"""
        CREATE POLICY purge ON audit_chains AS RESTRICTIVE FOR DELETE TO {PLATFORM_ROLE}
        USING (EXISTS (SELECT FROM organization_purges p WHERE p.org_id = audit_chains.org_id))
    """)


def downgrade() -> None:
    op.execute("DROP POLICY purge ON audit_chains")
    op.execute(f"REVOKE DELETE ON audit_chains FROM {PLATFORM_ROLE}")
    op.drop_table("organization_purges")
    # What the keys sealed cannot be opened any more.
    op.drop_table("data_keys")
