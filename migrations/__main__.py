"""`python -m migrations [--down N]`: bring the database to the newest schema, or go back.

`CADENCE_POSTGRES_MIGRATION_URL` is the login that owns the tables; it needs the right to create roles. The login of
`CADENCE_POSTGRES_URL`, which the application uses, is made when there is none of its name. Where only the latter is
set, both are the same login.
"""

import argparse
import os
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config


def config(postgres_url: str, *, application_url: str | None = None) -> Config:
    """An Alembic configuration without an ini file."""
    cfg = Config()
    cfg.set_main_option("script_location", str(Path(__file__).parent))
    # ConfigParser reads % as the start of an interpolation, and passwords hold percent-encoded characters.
    cfg.set_main_option("sqlalchemy.url", postgres_url.replace("%", "%%"))
    cfg.attributes["application_url"] = application_url
    return cfg


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m migrations", description="Migrate PostgreSQL.")
    parser.add_argument("--down", type=int, metavar="N", help="go back N migrations instead of forward to the newest")
    arguments = parser.parse_args()
    application_url = os.environ.get("CADENCE_POSTGRES_URL", "")
    url = os.environ.get("CADENCE_POSTGRES_MIGRATION_URL", "") or application_url
    if not url:
        sys.stderr.write("CADENCE_POSTGRES_URL is not set\n")
        return 2
    if arguments.down:
        command.downgrade(config(url), f"-{arguments.down}")
    else:
        command.upgrade(config(url, application_url=application_url or None), "head")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
