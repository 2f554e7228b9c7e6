"""What tiers allow, and budgets

Revision ID: 0010
Revises: 0009
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import TENANT_ROLE

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LIMITS = (
    "orchestrators",
    "members",
    "llm_configs",
    "central_points",
    "plugins",
    "requests_per_minute",
    "request_burst",
    "chats_per_minute",
    "member_requests_per_minute",
    "concurrent_runs",
    "messages_per_day",
    "messages_per_month",
    "tokens_per_day",
    "tokens_per_month",
)
TIERS: dict[str, tuple[int | None, ...]] = {
    "free": (1, 3, 1, 1, 5, 10, 20, 5, None, 2, 50, 500, 250_000, 2_500_000),
    "plus": (3, 10, 3, 3, 10, 30, 60, 15, None, 5, 500, 5_000, 2_500_000, 25_000_000),
    "pro": (10, 25, 10, 10, 50, 60, 120, 30, None, 20, 2_500, 25_000, 12_500_000, 125_000_000),
    "premium": (25, 100, 25, 25, 100, 120, 240, 60, None, 50, 10_000, 100_000, 50_000_000, 500_000_000),
    "business": (100, 500, 100, 100, 500, 300, 600, 150, None, 200, 50_000, 500_000, 250_000_000, 2_500_000_000),
    "enterprise": (None, None, None, None, None, 1_000, 2_000, None, None, None, None, None, None, None),
}
BUDGETS = ("organizations", "api_keys")


def upgrade() -> None:
    tiers = op.create_table(
        "tiers",
        sa.Column("name", sa.String(), nullable=False),
        *(sa.Column(limit, sa.BigInteger(), nullable=True) for limit in LIMITS),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tiers")),
    )
    op.bulk_insert(tiers, [{"name": name, **dict(zip(LIMITS, values, strict=True))} for name, values in TIERS.items()])
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON tiers FROM {TENANT_ROLE}")
    op.create_foreign_key(op.f("fk_organizations_tier_tiers"), "organizations", "tiers", ["tier"], ["name"])
    for table in BUDGETS:
        op.add_column(table, sa.Column("budget_per_month", sa.Numeric(14, 6), nullable=True))


def downgrade() -> None:
    for table in BUDGETS:
        op.drop_column(table, "budget_per_month")
    op.drop_constraint(op.f("fk_organizations_tier_tiers"), "organizations", type_="foreignkey")
    op.drop_table("tiers")
