"""A data key for each organization

Revision ID: 0011
Revises: 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.tenancy import keep_tenants_apart

revision: str = "0011"
down_revision: str | None = "0010"
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


def downgrade() -> None:
    # What the keys sealed cannot be opened any more.
    op.drop_table("data_keys")
