"""The long-lived tasks of this process. One that ends by itself is a bug: the process stops instead of limping."""

import asyncio
from collections.abc import Callable, Coroutine

from shared.logging import get_logger

CANCEL_AGAIN_SECONDS = 2.0

log = get_logger(__name__)


class BackgroundTasks:
    """Owns its tasks: whoever starts them stops them with `stop`."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, set()
        running = set(tasks)
        while running:
            # More than once: on Python 3.11 `asyncio.wait_for`, which libraries use, may swallow a cancellation that
            # arrives together with its result, and the task would go on for ever.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task not in self._tasks:
            return
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        log.critical("background_task_died", task=task.get_name(), exc_info=error)
        self._on_death()
