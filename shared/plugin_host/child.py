"""The program of a plugin host, run as a file: `python -I -S -B child.py <launch as JSON>`.

Up to `confine` only what the platform itself wrote is imported: the standard library, msgspec from the base directory,
and this package by its path, so that none of its neighbours is within reach. Everything later is the plugin's world.
"""

import ctypes
import gc
import importlib.util
import io
import json
import logging
import os
import socket
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

_M_ARENA_MAX = -8
_PR_SET_DUMPABLE = 4
_NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
)


def main() -> None:
    # What is imported stays: looking through it while it grows finds nothing.
    gc.disable()
    launch = json.loads(sys.argv[1])
    channel = socket.socket(fileno=launch["channel"])
    shared = Path(__file__).parent.parent
    environment, base = Path(launch["environment"]), Path(launch["base"])
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        # Before the first thread. Each heap of the C library reserves 64 MiB of address space, which has a limit.
        libc.mallopt(_M_ARENA_MAX, 2)
        # The files of this process in /proc are nobody's.
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path.append(str(base))
    _load("shared", shared)
    from shared.plugin_host.messages import Hello, framed
    from shared.security.confinement import SYSTEM_PATHS, Limits, confine

    limits = Limits(
        cpu_seconds=None,
        memory_bytes=launch["address_space_bytes"],
        file_bytes=launch["file_bytes"],
        open_files=launch["open_files"],
    )
    network = _NETWORK_FILES if launch["network"] else ()
    readable = [
        *_library_paths(),
        *map(Path, SYSTEM_PATHS),
        *map(Path, network),
        shared,
        environment,
        base,
        # The base is made of links, and a link opens nothing by itself.
        *(entry.resolve() for entry in base.iterdir()),
        Path(launch["package"]),
    ]
    missing = confine(
        limits, readable=[p for p in readable if p.exists()], writable=Path.cwd(), network=launch["network"]
    )
    if launch["parent"] not in (None, os.getppid()):
        # The worker died before `confine` could tie us to its life.
        os._exit(1)
    channel.sendall(framed(Hello(os.getpid(), tuple(missing))))
    # A plugin may bring its own version of anything but the SDK itself.
    sys.path.insert(sys.path.index(str(base)), str(environment))
    _load("cadence_sdk", base / "cadence_sdk")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A line is logged when it is printed, not when thousands are.
        sys.stdout.reconfigure(line_buffering=True)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    import asyncio

    from shared.plugin_host.serving import serve

    # All of ours is loaded. The name is free again for a package that a plugin depends on.
    for name in [n for n in sys.modules if n == "shared" or n.startswith("shared.")]:
        del sys.modules[name]
    gc.enable()
    try:
        asyncio.run(serve(channel))
    finally:
        os._exit(1)


def _load(name: str, directory: Path) -> ModuleType:
    """A package from exactly this directory, whatever `sys.path` would say."""
    spec = importlib.util.spec_from_file_location(
        name, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _library_paths() -> list[Path]:
    """What Python reads of its own library while it runs."""
    names = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), f"{sys.base_prefix}/lib"}
    return [Path(name) for name in names]


if __name__ == "__main__":
    main()
