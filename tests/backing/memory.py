"""Temporary files of a test run in memory, where the machine has enough of it.

A database for each test is three hundred small files: 0.6 s on the disk of a usual machine, 0.04 s in memory.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
NEEDED_BYTES = 8 * 1024**3
"""Free in the file system and in the machine. A whole run in three processes holds 3 GB at most."""
_PREFIX = "cadence-tests-"


def move_into_memory() -> Path | None:
    """Let this process and its children make their temporary files there. Returns what to remove at the end; None when
    the machine has no room, or somebody has said by TMPDIR where they belong."""
    if "TMPDIR" in os.environ or not _has_room():
        return None
    for left in MEMORY.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.removeprefix(_PREFIX)}").exists():
            # Of a run that was killed.
            shutil.rmtree(left, ignore_errors=True)
    home = MEMORY / f"{_PREFIX}{os.getpid()}"
    home.mkdir()
    # Servers that refuse to run as root do it as somebody else, who has to get through.
    home.chmod(0o755)
    os.environ["TMPDIR"] = str(home)
    tempfile.tempdir = None
    return home


def _has_room() -> bool:
    try:
        is_for_programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
        free = min(shutil.disk_usage(MEMORY).free, _available_bytes())
    except OSError:
        return False
    return is_for_programs and free >= NEEDED_BYTES and os.access(MEMORY, os.W_OK)


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
