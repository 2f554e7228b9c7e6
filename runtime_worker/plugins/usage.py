"""What a process uses, as the kernel counts it."""

import os
from pathlib import Path

import msgspec

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(msgspec.Struct, frozen=True):
    """CPU time of all its threads so far, and what it holds resident."""

    cpu_seconds: float
    resident_bytes: int


def usage_of(process_id: int) -> Usage | None:
    """None when it has ended, or where there is no /proc."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_bytes()
        pages = Path(f"/proc/{process_id}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return None
    # The second field is the program's name, in parentheses, and may hold anything; user and system time are 14 and 15.
    fields = stat.rpartition(b")")[2].split()
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND, int(pages) * _PAGE_BYTES)
