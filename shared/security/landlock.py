"""Landlock: the kernel's own allow-list of paths for one process and its descendants (Linux 5.13, `man 7 landlock`)."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_QUERY = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FIRST_ABI_RIGHTS = (1 << 13) - 1
# Rights that newer kernels handle: moving between directories, truncating, device ioctls.
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_RIGHTS_BY_ABI = {2: _REFER, 3: _TRUNCATE, 5: _IOCTL}
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_TCP_ABI, _SCOPE_ABI = 4, 6
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def restrict(libc: ctypes.CDLL, *, readable: Iterable[Path], writable: Path, network: bool = False) -> bool:
    """Leave only these paths and, without `network`, no TCP where the kernel can; whether it worked.

    Needs `no_new_privs`.
    """
    abi = libc.syscall(_CREATE_RULESET, None, 0, _VERSION_QUERY)
    if abi < 1:
        return False
    handled = _FIRST_ABI_RIGHTS
    for since, right in _RIGHTS_BY_ABI.items():
        handled |= right if abi >= since else 0
    rules = _Ruleset(
        handled,
        _BIND_TCP | _CONNECT_TCP if abi >= _TCP_ABI and not network else 0,
        _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= _SCOPE_ABI else 0,
    )
    # An older kernel refuses a structure with fields it does not know, so it gets only the part it does.
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _TCP_ABI else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow(libc, ruleset, path, handled & (_EXECUTE | _READ_FILE | _READ_DIR))
        _allow(libc, ruleset, writable, handled & ~_EXECUTE)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Raises OSError for a path that is not there."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(rights if path.is_dir() else rights & _FILE_RIGHTS, descriptor)
        if libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot allow path", str(path))
    finally:
        os.close(descriptor)
