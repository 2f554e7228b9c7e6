"""Put on PYTHONPATH by the tests: each process of a stack writes down whose code it runs.

Plugin hosts and inspections start without site-packages and environment, so they are not among them.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

DIRECTORY = os.environ.get("CADENCE_TEST_WITNESS")


class Witness:
    """`<pid>.ran` gets a line for every module that is imported and every file of which code is run, when it happens;
    `<pid>.modules` what is in `sys.modules` whenever SIGUSR2 asks.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: set[str] = set()
        self._process_id = 0
        self._file = -1

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import":
            self._write(f"import {arguments[0]}\n")
        elif event == "exec":
            self._write(f"run {arguments[0].co_filename}\n")

    def tell(self, number: int, frame: FrameType | None) -> None:
        told = self._directory / f"{os.getpid()}.modules"
        written = told.with_suffix(".part")
        written.write_text("".join(f"{name} {getattr(m, '__file__', '')}\n" for name, m in list(sys.modules.items())))
        written.rename(told)

    def _write(self, line: str) -> None:
        if self._process_id != os.getpid():
            # The first line, or the first after a fork.
            self._process_id = os.getpid()
            self._file = os.open(self._directory / f"{self._process_id}.ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._seen.clear()
        if line not in self._seen:
            self._seen.add(line)
            os.write(self._file, line.encode())


if DIRECTORY:
    witness = Witness(Path(DIRECTORY))
    sys.addaudithook(witness.hear)
    signal.signal(signal.SIGUSR2, witness.tell)
