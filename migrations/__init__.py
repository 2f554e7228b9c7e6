"""Alembic migrations of PostgreSQL. Run them with `cadence migrate` or `python -m migrations`."""
