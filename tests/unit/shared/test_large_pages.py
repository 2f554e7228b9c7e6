"""What a process keeps for long is put into large pages, and is what it was."""

import asyncio
import subprocess
import sys

import pytest

from shared import large_pages

_KEEPS_MUCH = """
import asyncio
from pathlib import Path
from shared import large_pages

async def main():
    kept = [str(number) * 20 for number in range(300_000)]
    keeping = asyncio.create_task(large_pages.keep_in_large_pages(lambda: True, after_seconds=0))
    large = 0
    async with asyncio.timeout(60):
        while not large and not keeping.done():
            await asyncio.sleep(0.05)
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            large = next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))
    print("large" if large else "none")
    assert all(text == str(number) * 20 for number, text in enumerate(kept))
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

asyncio.run(main())
"""


def test_what_a_process_keeps_is_put_into_large_pages_and_stays_what_it_is() -> None:
    # In a process of its own: a test's has hundreds of megabytes, and others to do.
    ended = subprocess.run([sys.executable, "-c", _KEEPS_MUCH], capture_output=True, text=True, check=True)

    assert ended.stdout == "large\n"


async def test_each_page_waits_for_an_idle_moment_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(large_pages, "_heap", lambda: [1, 2, 3])

    def make_large(address: int) -> bool:
        made.append(address)
        return True

    monkeypatch.setattr(large_pages, "_make_large", make_large)
    monkeypatch.setattr(large_pages, "IDLE_SECONDS", 0.2)
    idle = [False, True, True]
    keeping = asyncio.create_task(large_pages.keep_in_large_pages(lambda: bool(idle and idle.pop(0)), after_seconds=0))
    async with asyncio.timeout(5):
        while len(made) < 2:
            await asyncio.sleep(0.01)
        # Nobody is idle from here on.
        assert not idle
        while len(made) < 3:
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert made == [1, 2, 3]
