"""The relay as a background task of the control plane."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from control_plane.events.publisher import publisher_for
from control_plane.events.relay import Relay
from shared.logging import get_logger

log = get_logger(__name__)


def stop_this_process() -> None:
    """Ask for an orderly stop, as an operator would; whoever supervises the process starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)


@asynccontextmanager
async def relay_running(
    postgres_url: str, broker_url: str, *, on_death: Callable[[], None] = stop_this_process
) -> AsyncIterator[None]:
    """Run the relay for as long as the block lasts.

    A relay that ends by itself is a bug; `on_death` then stops the process, because one that goes on accepting changes
    nobody hears of is worse than one that restarts.
    """
    task = asyncio.create_task(Relay(postgres_url, publisher_for(broker_url)).run(), name="outbox-relay")

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.critical("relay_died", exc_info=task.exception())
            on_death()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        # What a relay died of was logged when it happened.
        await asyncio.gather(task, return_exceptions=True)
