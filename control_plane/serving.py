"""The application of a server process, which has its own environment and its own logging."""

import asyncio
import os

from litestar import Litestar

from shared.heap import freeze_what_is_there, importing
from shared.large_pages import keep_in_large_pages
from shared.logging import configure_logging
from shared.security.environment import forget_settings
from shared.settings import read_control_plane_settings


def from_environment() -> Litestar:
    with importing():
        from control_plane.app import create_app
    settings = read_control_plane_settings(os.environ)
    # The process that started this one keeps its own: it passes them on to the next when this one dies.
    forget_settings(os.environ)
    configure_logging(settings.process.log_level, settings.process.log_format)
    app = create_app(settings)
    paging = _Paging()
    app.on_startup.append(paging.start)
    app.on_shutdown.append(paging.stop)
    freeze_what_is_there()
    return app


class _Paging:
    """Of the process that serves, not of an application: tests have many of these in one process."""

    async def start(self) -> None:
        self._task = asyncio.create_task(keep_in_large_pages())

    async def stop(self) -> None:
        self._task.cancel()
