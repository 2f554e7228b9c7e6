"""Shutting the current process in before it runs somebody else's code. Linux only, nothing of it can be undone.

Four walls, each of which an ordinary user may raise: resource limits; no capabilities and no way to gain any; Landlock,
which leaves only named directories readable and one writable; and a seccomp filter, under which there are no sockets,
no new processes and no signals to others. A user and network namespace of its own comes on top where the kernel allows.
`confine` tells which walls could not be raised; on other systems than Linux that is all but the limits.
"""

import ctypes
import platform
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shared.security import landlock, seccomp


class Limits(msgspec.Struct, frozen=True):
    """What the process may use: CPU time, address space, the largest file it may write, open files.

    Without `cpu_seconds` its CPU time is for somebody else to watch.
    """

    cpu_seconds: int | None = 10
    memory_bytes: int = 2 * 1024**3
    file_bytes: int = 16 * 1024**2
    open_files: int = 64


SYSTEM_PATHS = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/mime.types",
    "/dev/null",
    "/dev/urandom",
)
"""What Python reads of the system while it runs."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 38, 24
_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9


def confine(limits: Limits, *, readable: Iterable[Path], writable: Path, network: bool = False) -> list[str]:
    """Shut this process in; the names of the walls that this kernel does not have.

    With `network` it keeps the network it has, for internet sockets only: never for those that are files.
    Call it while the process has one thread: namespaces and filters are per thread. What was opened before stays open.
    """
    _limit(limits)
    if sys.platform != "linux":
        return ["capabilities", "files", "system calls", "network namespace"]
    libc = ctypes.CDLL(None, use_errno=True)
    missing: list[str] = []
    # IPC too: shared memory segments are found by number, not by path.
    if not network and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) != 0:
        missing.append("network namespace")
    if not (_drop_capabilities(libc) and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0):
        missing.append("capabilities")
    # After the credentials have changed, which would undo it; the filter below keeps it from being undone later.
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if not landlock.restrict(libc, readable=readable, writable=writable, network=network):
        missing.append("files")
    if not seccomp.restrict(libc, platform.machine(), network=network):
        missing.append("system calls")
    return missing


def interpreter_paths() -> list[Path]:
    """What Python itself reads while it runs: its installation, site-packages, and the system's libraries."""
    candidates = [
        sys.prefix,
        sys.base_prefix,
        *(p for p in sys.path if p.endswith(("site-packages", "dist-packages", "lib-dynload"))),
        *SYSTEM_PATHS,
    ]
    return [path for path in dict.fromkeys(map(Path, candidates)) if path.exists()]


def _limit(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        if value is None:
            continue
        _, hard = resource.getrlimit(kind)
        # One second more for CPU: the soft limit is a signal that names itself, the hard one a plain kill.
        ceiling = value + 1 if kind == resource.RLIMIT_CPU else value
        if hard != resource.RLIM_INFINITY:
            ceiling = min(ceiling, hard)
        try:
            resource.setrlimit(kind, (min(value, ceiling), ceiling))
        except (OSError, ValueError):
            # macOS refuses RLIMIT_AS. The wall clock of whoever started us is the limit that always holds.
            continue


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            # Past the last one the kernel knows, or not ours to drop; what counts is the set given up below.
            break
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    nothing = (_CapabilityData * 2)()
    return bool(libc.capset(ctypes.byref(header), ctypes.byref(nothing)) == 0)
