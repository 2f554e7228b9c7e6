"""Running uv, which resolves and installs what plugins depend on: without our environment, within a budget.

uv never runs a package's code here: only wheels are taken, and those are unpacked, not executed.
"""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from shared.errors import DependenciesUnavailable, PackageIndexUnavailable

MAX_REASON_CHARS = 1500
_POLL_SECONDS = 0.25
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024
# What a process needs to reach an index through a proxy or with an operator's own certificates; nothing else goes in.
_PASSED_ON = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
_NOISE = ("Using CPython", "Using Python", "Resolved ", "Prepared ", "Installed ", "Bytecode ", "Downloading ", "hint:")
_NETWORK = ("error sending request", "client error (Connect)", "HTTP status server error", "operation timed out")
_URL = re.compile(r"(https?|file)://\S+")
_SPACE = re.compile(r"\s+")


class UvLimits(msgspec.Struct, frozen=True):
    """`disk_bytes` is what uv may have on disk at a time, its cache and the result together."""

    seconds: float = 60.0
    disk_bytes: int = 1024**3


async def run_uv(
    arguments: Sequence[str], *, home: Path, index_url: str | None, offline: bool, limits: UvLimits
) -> str:
    """What uv prints. It works below `home` only. Cancelling ends it.

    Raises DependenciesUnavailable with uv's reason, PackageIndexUnavailable when the index does not answer.
    """
    environment = {
        **{name: value for name in _PASSED_ON if (value := os.environ.get(name))},
        "HOME": str(home),
        "TMPDIR": str(home),
        "UV_CACHE_DIR": str(home / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_HTTP_TIMEOUT": "15",
        "UV_HTTP_RETRIES": "2",
        # Two builds at once should not take every core from the process that serves.
        "UV_CONCURRENT_INSTALLS": "2",
    }
    if index_url is not None and not offline:
        # Not an argument: it may hold a password, and arguments are seen by everybody on the machine.
        environment["UV_DEFAULT_INDEX"] = index_url
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            _uv(),
            *arguments,
            "--color=never",
            *(["--no-index", "--offline"] if offline else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
        try:
            await _within(process, home, limits)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        output.seek(0)
        errors.seek(0)
        if process.returncode == 0:
            return output.read(_MAX_OUTPUT_BYTES).decode(errors="replace")
        raise _explained(errors.read(_MAX_OUTPUT_BYTES).decode(errors="replace"), home)


async def _within(process: asyncio.subprocess.Process, home: Path, limits: UvLimits) -> None:
    """Wait for the end. Raises DependenciesUnavailable over the budget of time or disk."""
    deadline = asyncio.get_running_loop().time() + limits.seconds
    ended = asyncio.create_task(process.wait())
    try:
        has_ended = False
        while not has_ended:
            # Measured once more after the end: what is unpacked within a blink counts as well.
            has_ended = bool((await asyncio.wait({ended}, timeout=_POLL_SECONDS))[0])
            if not has_ended and asyncio.get_running_loop().time() > deadline:
                raise DependenciesUnavailable(f"the dependencies took longer than {limits.seconds:g} seconds to fetch")
            if await asyncio.to_thread(_size_of, home) > limits.disk_bytes:
                raise DependenciesUnavailable(
                    f"the dependencies are larger than {limits.disk_bytes // 1024**2} MiB unpacked"
                )
    finally:
        ended.cancel()


def _size_of(directory: Path) -> int:
    """Bytes below a directory in which somebody is working."""
    total, seen = 0, set()
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                status = (Path(folder) / name).lstat()
                # An installed file and its copy in the cache are one.
                if status.st_nlink == 1 or status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_size
    return total


def _uv() -> str:
    # Late: only processes that build environments need it.
    from uv import find_uv_bin

    return find_uv_bin()


def _explained(said: str, home: Path) -> DependenciesUnavailable:
    if any(sign in said for sign in _NETWORK):
        return PackageIndexUnavailable()
    lines = [line.strip().removeprefix("error:").removeprefix("cause:").strip() for line in said.splitlines()]
    reason = " ".join(line for line in lines if line and not line.startswith(_NOISE))
    # Where an index or a directory of this server is, is none of an author's business.
    reason = _URL.sub("the package index", reason).replace(f"{home}/", "").replace(str(home), "")
    reason = _SPACE.sub(" ", reason).removeprefix("No solution found when resolving dependencies").strip()
    return DependenciesUnavailable(
        f"the dependencies cannot be installed: {reason or 'uv ended without a reason'}"[:MAX_REASON_CHARS]
    )
