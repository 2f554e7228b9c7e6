"""Which core a process runs on and what it used, from /proc, its children included."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """The core of the process under test and the core of everything else; the same one on a machine that has one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def pin(pid: int, core: int) -> None:
    """Keep a process, its threads and its children on one core."""
    for process in _tree(pid):
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """User and system time used so far, in steps of 10 ms; of children that have ended too."""
    ticks = 0
    for process in _tree(pid):
        # The name in parentheses may hold spaces: count fields behind it. utime is the 14th field of proc(5) stat.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def rss_mb(pid: int) -> float:
    return sum(_status_kb(process, "VmRSS") for process in _tree(pid)) / 1024


def peak_rss_mb(pid: int) -> float:
    """The most that each process ever held, added up."""
    return sum(_status_kb(process, "VmHWM") for process in _tree(pid)) / 1024


def signal_all(pid: int, number: signal.Signals) -> None:
    for process in list(_tree(pid)):
        os.kill(process, number)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in psutil.Process(pid).children(recursive=True):
        yield child.pid


def _status_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0
