"""`python -m control_plane`: serve the API on Granian, with the outbox relay beside it."""

import os
import sys

from granian.constants import Interfaces, Loops
from granian.server import Server

from shared.errors import ConfigurationInvalid
from shared.logging import configure_logging
from shared.open_files import allow_open_files
from shared.settings import read_control_plane_settings

BACKPRESSURE = 8_192
"""Requests one process works on at once: chat streams go through the gateway route, each holding one for minutes."""


def main() -> int:
    try:
        settings = read_control_plane_settings(os.environ)
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure_logging(settings.process.log_level, settings.process.log_format)
    # Before the process that serves is started: it inherits the limit.
    allow_open_files()
    Server(
        "control_plane.serving:from_environment",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        backpressure=BACKPRESSURE,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        log_enabled=False,
    ).serve()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
