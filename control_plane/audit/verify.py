"""`python -m control_plane.audit.verify`: whether every entry of the audit log is there, and as it was written.

One line for each chain. Exit codes: 0 all are whole, 1 one is broken or PostgreSQL does not answer, 2 bad settings.
"""

import asyncio
import os
import sys

from sqlalchemy.exc import SQLAlchemyError

from control_plane.audit.chain import ChainReport, verify
from control_plane.database.engine import Database, create_engine
from shared.errors import ConfigurationInvalid
from shared.settings import ControlPlaneSettings, read_control_plane_settings


async def reports(settings: ControlPlaneSettings) -> list[ChainReport]:
    engine = create_engine(settings.postgres_url)
    try:
        async with Database(engine)() as session:
            return [report async for report in verify(session)]
    finally:
        await engine.dispose()


def main() -> int:
    try:
        found = asyncio.run(reports(read_control_plane_settings(os.environ)))
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"PostgreSQL did not do it: {error}\n")
        return 1
    for report in found:
        whose = f"organization {report.org_id}" if report.org_id else "platform"
        fate = "whole" if report.problem is None else f"BROKEN at entry {report.broken_at}: {report.problem}"
        sys.stdout.write(f"{whose:<51} {report.entries:>8} entries  {fate}\n")
    return int(any(report.problem for report in found))


if __name__ == "__main__":
    raise SystemExit(main())
