"""What a process keeps for long is put into large pages, and is what it was."""

import subprocess
import sys

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
