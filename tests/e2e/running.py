"""Cadence started as a user starts it: `cadence up` in a directory of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.local.ports import free_port
from deploy.stack.data_dir import DataDirectory
from deploy.stack.health import ProcessReport, inspect

UP_SECONDS = 120


class RunningStack:
    """One `cadence up`. `stop` ends it as Ctrl-C does; `environment` is what its processes get besides ours."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output_path = data_dir.parent / f"{data_dir.name}.out"
        self._options = options
        self._environment = environment or {}
        self.start()

    def start(self) -> None:
        """Once more, after `stop` or a kill: in the same directory and on the same port."""
        # A pipe would be filled by a long run and block it; a file never does.
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                cadence("up", "--data-dir", str(self.data_dir), "--port", str(self.port), *self._options),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "COLUMNS": "200", **self._environment},
            )

    def wait_until_ready(self) -> None:
        """Raises AssertionError with what it printed when it ends, or is not ready in time."""
        deadline = time.monotonic() + UP_SECONDS
        while not (self.data_dir / "run" / "stack.json").exists():
            assert self.process.poll() is None, f"cadence up ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"not ready after {UP_SECONDS} s:\n{self.output}"
            time.sleep(0.05)

    def credentials(self) -> tuple[str, str]:
        """Username and password of the first admin, from the file that `cadence up` names."""
        secrets = json.loads((self.data_dir / "secrets.json").read_text())
        return secrets["admin_username"], secrets["admin_password"]

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    def processes(self) -> list[ProcessReport]:
        """What `cadence status` shows. Asked in this process: tests do so again and again while they wait."""
        directory = DataDirectory(self.data_dir)
        state = directory.state()
        assert state is not None, f"nothing runs:\n{self.output}"
        return inspect(directory, state)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another `cadence` command on the same data directory."""
        return subprocess.run(
            cadence(arguments[0], "--data-dir", str(self.data_dir), *arguments[1:]),
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def cadence(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", *arguments]
