"""Central points

Revision ID: 0012
Revises: 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import keep_tenants_apart

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "central_points",
        sa.Column("org_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("instance_id", sa.UUID(), nullable=False),
        sa.Column("visibility", sa.String(), nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger(), nullable=False),
        sa.Column("requests_per_minute_per_address", sa.BigInteger(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('revision_seq')"), nullable=False),
        sa.CheckConstraint("visibility IN ('private', 'public')", name=op.f("ck_central_points_visibility")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_central_points_org_id_organizations")),
        sa.ForeignKeyConstraint(
            ["instance_id"],
            ["orchestrator_instances.id"],
            name=op.f("fk_central_points_instance_id_orchestrator_instances"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_central_points")),
    )
    op.create_index(op.f("ix_central_points_org_id"), "central_points", ["org_id"], unique=False)
    op.create_index(op.f("ix_central_points_instance_id"), "central_points", ["instance_id"], unique=False)
    op.create_index("ix_central_points_revision", "central_points", ["revision"], unique=False)
    op.create_index(
        "uq_central_points_name_living",
        "central_points",
        ["org_id", "name"],
        unique=True,
        postgresql_where=sa.text("NOT is_deleted"),
    )
    keep_tenants_apart("central_points")


def downgrade() -> None:
    op.drop_table("central_points")
