"""Stopping a process of the stack in its tracks, and letting it go on."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil

from tests.e2e.running import RunningStack


async def pids(stack: RunningStack) -> dict[str, int]:
    """By the slug of the process, of those that run."""
    processes = await asyncio.to_thread(stack.processes)
    return {process.slug: process.pid for process in processes if process.pid is not None}


@asynccontextmanager
async def paused(pid: int) -> AsyncIterator[None]:
    """A process and all its children do nothing for as long as the block lasts; their connections stay open."""
    _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    # The parent first: PostgreSQL's makes a process for every new connection.
    process = psutil.Process(pid)
    process.send_signal(number)
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.send_signal(number)
