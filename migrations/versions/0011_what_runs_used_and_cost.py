"""What runs used and cost

Revision ID: 0011
Revises: 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import TENANT_ROLE, keep_tenants_apart

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SINGLE = ("usage_runs", "usage_calls")
DAILY = ("usage_daily_messages", "usage_daily")


def _of_organization(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["org_id"], ["organizations.id"], name=op.f(f"fk_{table}_org_id_organizations"), ondelete="CASCADE"
    )


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "usage_runs",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        _of_organization("usage_runs"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_usage_runs")),
    )
    op.create_table(
        "usage_calls",
        sa.Column("run_id", sa.UUID(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("call", sa.BigInteger(), nullable=False),
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("api_key_id", sa.UUID(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        *_counts("input_tokens", "output_tokens", "cached_tokens"),
        sa.Column("is_estimated", sa.Boolean(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("input_price", sa.Numeric(12, 6), nullable=True),
        sa.Column("output_price", sa.Numeric(12, 6), nullable=True),
        sa.Column("cached_price", sa.Numeric(12, 6), nullable=True),
        sa.Column("cost", sa.Numeric(24, 12), nullable=True),
        _of_organization("usage_calls"),
        sa.PrimaryKeyConstraint("run_id", "epoch", "call", name=op.f("pk_usage_calls")),
    )
    for table in SINGLE:
        op.create_index(f"ix_{table}_ended_at", table, ["ended_at"], unique=False)
        op.create_index(f"ix_{table}_org_id", table, ["org_id"], unique=False)
    op.create_table(
        "usage_daily_messages",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("instance_id", sa.UUID(), nullable=False),
        *_counts("messages", "failed", "cancelled"),
        _of_organization("usage_daily_messages"),
        sa.PrimaryKeyConstraint("org_id", "day", "instance_id", name=op.f("pk_usage_daily_messages")),
    )
    op.create_table(
        "usage_daily",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        *_counts("messages", "calls", "estimated_calls", "unpriced_calls"),
        *_counts("input_tokens", "output_tokens", "cached_tokens"),
        sa.Column("cost", sa.Numeric(24, 12), nullable=False),
        _of_organization("usage_daily"),
        sa.PrimaryKeyConstraint("org_id", "day", "instance_id", "provider", "model_name", name=op.f("pk_usage_daily")),
    )
    for table in (*SINGLE, *DAILY):
        keep_tenants_apart(table)
        # Tenants look at it. Only the platform counts.
        op.execute(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {TENANT_ROLE}")


def downgrade() -> None:
    for table in (*DAILY, *reversed(SINGLE)):
        op.drop_table(table)
