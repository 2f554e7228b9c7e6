"""`python -m control_plane.data_keys.rotate [--reseal]`: wrap every data key with the newest key-encryption key.

Writes JSON, one object a line: progress, and at the end a report. Exit codes: 0 done, 1 something could not be opened
or a server does not answer (run it again), 2 bad settings.
"""

import argparse
import asyncio
import os
import sys

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from control_plane.data_keys.rotation import Progress, Rotation, RotationReport
from control_plane.database.engine import Database, create_engine
from shared.errors import ConfigurationInvalid, DomainError
from shared.security.opening import open_wrapping
from shared.settings import ControlPlaneSettings, read_control_plane_settings


async def rotate(settings: ControlPlaneSettings, *, reseal: bool) -> RotationReport:
    engine, wrapping = create_engine(settings.postgres_url), open_wrapping(settings.security)
    try:
        return await Rotation(Database(engine), wrapping, reseal=reseal, tell=_tell).run()
    finally:
        await wrapping.close()
        await engine.dispose()


def _tell(what: Progress | RotationReport) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Wrap every data key with the newest key-encryption key.")
    parser.add_argument("--reseal", action="store_true", help="also make new data keys and seal every secret anew")
    arguments = parser.parse_args()
    try:
        report = asyncio.run(rotate(read_control_plane_settings(os.environ), reseal=arguments.reseal))
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (SQLAlchemyError, OSError, DomainError) as error:
        what = error.detail if isinstance(error, DomainError) else type(error).__name__
        sys.stderr.write(f"not done, run it again: {what}\n")
        return 1
    _tell(report)
    return int(report.unreadable > 0)


if __name__ == "__main__":
    raise SystemExit(main())
