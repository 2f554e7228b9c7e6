"""Forgetting the environment: what a process was told at its start and must not go on carrying around.

An environment is passed on to every child, shown by every crash report that lists it, and readable by all code in the
process, that of plugins included.
"""

import ctypes
import os
import sys
from collections.abc import MutableMapping

from shared.environment_variables import PREFIX


def forget_settings(variables: MutableMapping[str, str]) -> None:
    """Remove every variable of ours, which holds keys, tokens and URLs with passwords. Call it once they are read."""
    names = [name for name in variables if name.startswith(PREFIX)]
    if variables is os.environ and sys.platform == "linux":
        _blank([os.fsencode(name) for name in names])
    for name in names:
        del variables[name]


def _blank(names: list[bytes]) -> None:
    """Overwrite the values where the kernel put them: `/proc/self/environ` shows that memory for as long as we live,
    whatever is removed from the environment afterwards.
    """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    for name in names:
        if address := libc.getenv(name):
            ctypes.memset(address, 0, len(ctypes.string_at(address)))
