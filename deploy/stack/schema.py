"""Whether the database is at the newest migration, asked without loading the migration tool."""

import re
from pathlib import Path

import psycopg

import migrations

_REVISION = re.compile(r"^(revision|down_revision)\b[^=]*= *\"([^\"]+)\"", re.MULTILINE)


def newest_revision() -> str:
    """The one that no other is built upon."""
    revisions, built_upon = set[str](), set[str]()
    for file in (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py"):
        for kind, revision in _REVISION.findall(file.read_text()):
            (revisions if kind == "revision" else built_upon).add(revision)
    (newest,) = revisions - built_upon
    return newest


def is_newest(postgres_url: str) -> bool:
    try:
        with psycopg.connect(postgres_url, connect_timeout=5) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return False
    return row is not None and row[0] == newest_revision()
