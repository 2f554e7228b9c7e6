"""`python -m control_plane.relay`: the outbox relay alone, for deployments that keep it out of the API processes."""

import asyncio
import os
import signal
import sys

from shared.heap import importing

with importing():
    from control_plane.events.publisher import publisher_for
    from control_plane.events.relay import Relay
    from shared.errors import ConfigurationInvalid
    from shared.logging import configure_logging
    from shared.security.environment import forget_settings
    from shared.settings import ControlPlaneSettings, read_control_plane_settings


async def serve(settings: ControlPlaneSettings) -> None:
    """Relay until SIGTERM or SIGINT."""
    task = asyncio.create_task(Relay(settings.postgres_url, publisher_for(settings.broker_url)).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def main() -> int:
    try:
        settings = read_control_plane_settings(os.environ)
    except ConfigurationInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2
    forget_settings(os.environ)
    configure_logging(settings.process.log_level, settings.process.log_format)
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
