"""Alembic's entry point. The URLs come from whoever calls `migrations.__main__`."""

import os

from alembic import context
from sqlalchemy import create_engine, pool, text
from sqlalchemy.engine import make_url

from control_plane.database.metadata import metadata
from migrations.application_login import admit

# Two migrate jobs that start together must not both run the same migration.
_MIGRATION_LOCK = 0x0CADE4CF


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or os.environ["CADENCE_POSTGRES_URL"]
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, compare_server_default=False)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            context.run_migrations()
            if application_url := context.config.attributes.get("application_url"):
                admit(connection, application_url)


run()
