"""What API keys spend together

Revision ID: 0014
Revises: 0013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import TENANT_ROLE, keep_tenants_apart

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("budget_id", sa.UUID(), nullable=True))
    op.create_table(
        "usage_monthly_keys",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("budget_id", sa.UUID(), nullable=False),
        sa.Column("cost", sa.Numeric(24, 12), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organizations.id"],
            name=op.f("fk_usage_monthly_keys_org_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", "month", "budget_id", name=op.f("pk_usage_monthly_keys")),
    )
    # What single calls tell, as far back as they are kept.
    op.execute("""
        INSERT INTO usage_monthly_keys (org_id, month, budget_id, cost)
        SELECT org_id, date_trunc('month', ended_at AT TIME ZONE 'UTC')::date, api_key_id, sum(coalesce(cost, 0))
        FROM usage_calls WHERE api_key_id IS NOT NULL GROUP BY 1, 2, 3
    """)
    keep_tenants_apart("usage_monthly_keys")
    # Tenants look at it. Only the platform counts.
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON usage_monthly_keys FROM {TENANT_ROLE}")


def downgrade() -> None:
    op.drop_table("usage_monthly_keys")
    op.drop_column("api_keys", "budget_id")
