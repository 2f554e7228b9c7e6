"""Plugins that are MCP servers

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = ("system_plugins", "org_plugins")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("kind", sa.String(), server_default="code", nullable=False))
        op.add_column(table, sa.Column("mcp", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "mcp")
        op.drop_column(table, "kind")
