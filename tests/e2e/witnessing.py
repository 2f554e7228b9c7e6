"""What the processes of a stack have run, by their own witness (`witness/sitecustomize.py`)."""

import os
import signal
import time
from pathlib import Path

from shared.packages.modules import ROOT_PREFIX

WITNESS = Path(__file__).with_name("witness")
ANSWER_SECONDS = 20.0
CODE_PLACES = ("/inspect-", "/package-cache/packages/", "/package-cache/environments/")
"""Below these is the code of plugins and of what they depend on."""


class Witnesses:
    """One for a stack. `trusted` are the digests of system plugins that may run inside workers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.trusted: set[str] = set()

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(WITNESS), "CADENCE_TEST_WITNESS": str(self.directory)}

    def processes_with(self, module: str) -> list[int]:
        """The processes, ended ones included, that ever imported a module."""
        return [int(file.stem) for file in self._records() if f"import {module}\n" in file.read_text()]

    def plugin_code(self) -> set[tuple[int, str]]:
        """Everything of plugins that ran in these processes at any time, by process."""
        return {
            (int(file.stem), line)
            for file in self._records()
            for line in file.read_text().splitlines()
            if _is_plugins(line)
        }

    def foreign_code(self) -> set[tuple[int, str]]:
        """The same without what is trusted; it should be nothing."""
        return {
            (process_id, line)
            for process_id, line in self.plugin_code()
            if not any(digest[:16] in line for digest in self.trusted)
        }

    def modules(self, process_id: int) -> str:
        """`sys.modules` of a living process as it is now: a name and its file a line."""
        told = self.directory / f"{process_id}.modules"
        told.unlink(missing_ok=True)
        os.kill(process_id, signal.SIGUSR2)
        deadline = time.monotonic() + ANSWER_SECONDS
        while not told.exists():
            assert time.monotonic() < deadline, f"process {process_id} does not tell its modules"
            time.sleep(0.02)
        return told.read_text()

    def _records(self) -> list[Path]:
        return sorted(self.directory.glob("*.ran"))


def plugin_lines(told: str) -> list[str]:
    """Those that name a module or a file of a plugin."""
    return [line for line in told.splitlines() if _is_plugins(line)]


def open_plugin_files(process_id: int) -> list[str]:
    """Files of plugins that a process has open or mapped, deleted ones included."""
    folder = Path(f"/proc/{process_id}")
    opened = [str(entry.readlink()) for entry in (folder / "fd").iterdir() if entry.is_symlink()]
    return [line for line in (*opened, *(folder / "maps").read_text().splitlines()) if _is_plugins(line)]


def _is_plugins(line: str) -> bool:
    if ROOT_PREFIX in line:
        return True
    # A process holds the directory below which it works; that has no code.
    _, is_work, within = line.partition("/.work/process-")
    return any(place in line for place in CODE_PLACES) and not (is_work and "/" not in within)
