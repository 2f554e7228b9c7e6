"""Running a module of ours to its end."""

import os
import subprocess
import sys
from collections.abc import Mapping


def run_module(module: str, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module`, with what it wrote captured."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def become_module(module: str, environment: Mapping[str, str], *arguments: str) -> None:
    """`python -m module` in place of this process: its signals, output and exit code are the command's own."""
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], {**os.environ, **environment})  # noqa: S606
