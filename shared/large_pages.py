"""What a process keeps for long, in large pages.

Python spreads what one request needs over all of its heap, a few bytes in every page of 4 KB. The processor forgets
where those pages are whenever something else runs for a moment, and finds it out again in one or two look-ups for each;
where machines are virtual, in many more. Linux puts 2 MB of memory that is in use into one page when it is asked to
(since 6.1; `MADV_COLLAPSE` of madvise(2), the "transparent huge pages" of its documentation). What is in it stays
where it is, and nothing grows by it (decision 0062).
"""

import asyncio
import ctypes
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from shared.logging import get_logger

PAGE_BYTES = 2 * 1024 * 1024
_MADV_COLLAPSE = 25

SETTLED_SECONDS = 10.0
"""A process that has just begun has other things to do, and does not know yet what it will keep."""

AGAIN_SECONDS = 10.0
"""How often it is asked whether it has grown, which is one number to read."""

GROWN_BYTES = 16 * 1024 * 1024
"""It is looked for more when there is so much more: frameworks are imported when the first instance needs them."""

IDLE_SECONDS = 1.0
"""So long each page waits for a moment in which nobody would notice: making one takes up to 10 ms, and whoever needs
what is in it stands still meanwhile."""
_POLL_SECONDS = 0.05

IN_USE = 0.8
"""So much of a stretch of memory has to be there: what is not would be taken as well."""

_FIELD = re.compile("[A-Z][A-Za-z_]*: ")

log = get_logger(__name__)


async def keep_in_large_pages(
    is_idle: Callable[[], bool] = lambda: True, *, after_seconds: float = SETTLED_SECONDS
) -> None:
    """Until cancelled, or until it turns out that this system has none."""
    if sys.platform != "linux":
        return
    try:
        await _keep(is_idle, after_seconds)
    except OSError as error:  # What a process may know of itself can be restricted.
        log.debug("no_large_pages", reason=str(error))


async def _keep(is_idle: Callable[[], bool], after_seconds: float) -> None:
    done: set[int] = set()
    seen_bytes, refused = 0, 0
    seconds = after_seconds
    while True:
        await asyncio.sleep(seconds)
        seconds = AGAIN_SECONDS
        if (resident := _resident_bytes()) < seen_bytes + GROWN_BYTES:
            continue
        seen_bytes = resident
        for address in await asyncio.to_thread(_heap):
            if address not in done:
                await _idle(is_idle)
                refused += not await asyncio.to_thread(_make_large, address)
                done.add(address)
        if refused == len(done):
            log.debug("no_large_pages")
            return


async def _idle(is_idle: Callable[[], bool]) -> None:
    for _ in range(round(IDLE_SECONDS / _POLL_SECONDS)):
        if is_idle():
            return
        await asyncio.sleep(_POLL_SECONDS)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _heap() -> list[int]:
    """Where a large page would fit, in memory that belongs to no file and is in use: most of a thread's stack is not,
    and would be then.
    """
    found: list[int] = []
    begin = end = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if _FIELD.match(line):
            if line.startswith("Rss:") and int(line.split()[1]) * 1024 >= IN_USE * (end - begin):
                found += range(-(-begin // PAGE_BYTES) * PAGE_BYTES, end - PAGE_BYTES + 1, PAGE_BYTES)
            continue
        addresses, rights, _, _, inode, *name = line.split()
        is_heap = rights.startswith("rw-p") and inode == "0" and name in ([], ["[heap]"])
        begin, end = (int(address, 16) for address in addresses.split("-")) if is_heap else (0, 0)
    return found


def _make_large(address: int) -> bool:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return bool(madvise(address, PAGE_BYTES, _MADV_COLLAPSE) == 0)
