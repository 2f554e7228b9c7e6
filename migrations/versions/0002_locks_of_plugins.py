"""Plugins have a lock of what they depend on

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("system_plugins", "org_plugins")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("lock", sa.String(), server_default="", nullable=False))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "lock")
