"""Starting and stopping an application from fixtures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar


@asynccontextmanager
async def started(app: Litestar) -> AsyncIterator[Litestar]:
    """Run the application's lifespan in a task of its own.

    Litestar holds an anyio task group open in it, which must be left in the task that entered it; pytest-asyncio ends a
    fixture in another task than it began.
    """
    ready, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            ready.set()
            await stop.wait()

    task = asyncio.create_task(live())
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    try:
        yield app
    finally:
        stop.set()
        await task
