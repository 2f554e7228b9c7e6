"""Taking the network from plugins, where an operator asked for that."""

import ctypes
import shutil
import subprocess
import sys
from typing import Literal

from shared.errors import ConfigurationInvalid
from shared.settings import Egress

Network = Literal["own", "namespace", "bubblewrap"]
"""What a host gets: the worker's own, or none by one of two means."""

_BUBBLEWRAP_OPTIONS = (
    *("--unshare-user", "--unshare-net", "--unshare-ipc", "--die-with-parent"),
    *("--dev-bind", "/", "/", "--"),
)
_CLONE_NEWUSER_NET_IPC = 0x10000000 | 0x40000000 | 0x08000000
_PROBE = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({_CLONE_NEWUSER_NET_IPC}) != 0)"
_PROBE_SECONDS = 20.0


def network_for(egress: Egress) -> Network:
    """How hosts are kept from the network. Raises ConfigurationInvalid where it is denied and nothing can enforce that.

    Blocks for as long as it takes to start an interpreter, or two.
    """
    if egress == "allow":
        return "own"
    if sys.platform == "linux" and _works([sys.executable, "-I", "-S", "-c", _PROBE]):
        return "namespace"
    if (prefix := bubblewrap_prefix()) and _works([*prefix, sys.executable, "-I", "-S", "-c", "pass"]):
        return "bubblewrap"
    raise ConfigurationInvalid(
        "CADENCE_PLUGIN_EGRESS: deny is not possible here: this system allows no unprivileged user and network "
        "namespaces and has no working bubblewrap (bwrap)"
    )


def bubblewrap_prefix() -> list[str]:
    """What to put before a command for bubblewrap to run it; empty where there is no bubblewrap."""
    program = shutil.which("bwrap")
    return [program, *_BUBBLEWRAP_OPTIONS] if program else []


def keep_own_files_private() -> None:
    """Make this process's environment, memory and descriptors in /proc unreadable for others of the same user."""
    if sys.platform == "linux":
        pr_set_dumpable = 4
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


def _works(command: list[str]) -> bool:
    try:
        ended = subprocess.run(  # noqa: S603 - our own interpreter, or bubblewrap by its name
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
