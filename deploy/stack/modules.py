"""Running a module of ours to its end."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping


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


class ModuleLines:
    """What a module writes, line by line as it comes; `returncode` once it has ended. Its errors are ours."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.returncode = 0

    def __iter__(self) -> Iterator[str]:
        with self._process:
            yield from self._process.stdout or ()
        self.returncode = self._process.returncode


def lines_of_module(module: str, environment: Mapping[str, str], *arguments: str) -> ModuleLines:
    """`python -m module`, read while it runs."""
    return ModuleLines(
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
    )


def become_module(module: str, environment: Mapping[str, str], *arguments: str) -> None:
    """`python -m module` in place of this process: its signals, output and exit code are the command's own."""
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], {**os.environ, **environment})  # noqa: S606
