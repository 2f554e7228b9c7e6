"""Threads for plugin code that may block, a bounded number for each bundle.

A thread cannot be killed. One that never comes back costs its bundle a slot, never another bundle; with all slots lost,
the bundle's sync tools only time out until the process ends. They are daemon threads and no thread pool, because a pool
is joined when the interpreter exits, which a hanging tool would prevent. A child process ends such code for real.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

THREADS_PER_BUNDLE = 8


class PluginThreads:
    """Runs calls in threads of their own, with the caller's context variables."""

    def __init__(self, name: str, limit: int = THREADS_PER_BUNDLE, *, waits_for_threads: bool = False) -> None:
        self._name = name
        self._waits_for_threads = waits_for_threads
        self._slots = asyncio.Semaphore(limit)

    async def run(self, call: Callable[[], T]) -> T:
        """The call's result, or what it raised.

        Cancelling stops the waiting, not the call; with `waits_for_threads` the cancelled one still ends no earlier
        than the call does, so that its owner knows what is going on.
        """
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            result: Any = None
            raised: BaseException | None = None
            try:
                result = context.run(call)
            except StopIteration as error:
                # A future refuses this one: it would end a generator somewhere up the stack.
                raised = RuntimeError("StopIteration")
                raised.__cause__ = error
            except BaseException as error:
                # Whatever it is, an exit included, belongs to whoever waits.
                raised = error
            try:
                loop.call_soon_threadsafe(self._settle, future, result, raised)
            except RuntimeError:
                # The loop is closed: the process is ending and nobody waits any more.
                return

        try:
            threading.Thread(target=work, name=self._name, daemon=True).start()
        except RuntimeError:
            self._slots.release()
            raise
        if not self._waits_for_threads:
            return await future
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise

    def _settle(self, future: "asyncio.Future[T]", result: T, raised: BaseException | None) -> None:
        self._slots.release()
        if future.done():
            return
        if raised is not None:
            future.set_exception(raised)
        else:
            future.set_result(result)
