"""What was loaded and unloaded leaves nothing behind: measured in a process of its own, on real parts."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec
import pytest

from tests.integration.runtime_worker.load_cycles import Report

WARM, CYCLES = 200, 1000


# A minute of one core where nothing else runs.
@pytest.mark.timeout(300)
async def test_a_thousand_loads_and_unloads_leave_no_memory_and_no_shared_part_behind(tmp_path: Path) -> None:
    module = "tests.integration.runtime_worker.load_cycles"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(WARM), str(CYCLES), str(tmp_path), stdout=PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    report = msgspec.json.decode(told.splitlines()[-1], type=Report)
    assert (report.models, report.bundles, report.templates, report.hot) == (0, 0, 0, 0)
    assert report.after_mb <= report.warm_mb * 1.05, report
