"""One child process: its own group, its own log, a pid file, and never longer-lived than we are."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

_TETHER = Path(__file__).with_name("tether.py")
_KILL_WAIT_SECONDS = 5.0
# "Parent" in a parent-death signal means the thread that forked. This one lives until the interpreter exits, so that a
# child may be started from any thread, also from one that ends soon.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="child-starter")


class Child:
    """A program started by us. `stop_signal` asks it to end; `death_signal` is what it gets when we die first."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        pid_path: Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._command = list(command)
        self._prefix = list(prefix)
        self._environment = dict(environment) if environment is not None else None
        self._log_path = log_path
        self._pid_path = pid_path
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or was never started; negative when a signal ended it."""
        return self._process.poll() if self._process else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._pid_path.parent.mkdir(parents=True, exist_ok=True)
        self._process = _starter.submit(self._spawn).result()
        self._pid_path.write_text(_identity(self._process.pid))

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Ask it to end, wait, then kill whatever is left of its group. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                # A stopped process acts on nothing but these two.
                os.killpg(process.pid, signal.SIGCONT)
                process.send_signal(self._stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
        _kill_group(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_WAIT_SECONDS)
        self._pid_path.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL to it and all of its group, without asking."""
        if self._process is not None:
            _kill_group(self._process.pid)
            self._process.wait(_KILL_WAIT_SECONDS)

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_group(signal.SIGCONT)

    def log_tail(self, lines: int = 5) -> str:
        """The last lines it wrote, for an error message."""
        return tail(self._log_path, lines)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _spawn(self) -> subprocess.Popen[bytes]:
        tether = [sys.executable, "-I", "-S", str(_TETHER), str(int(self._death_signal)), str(os.getpid())]
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [*self._prefix, *tether, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )


def tail(path: Path, lines: int) -> str:
    """The last `lines` lines of a text file, empty when there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def reap_orphan(pid_path: Path) -> bool:
    """Kill the group of a process that an earlier run left behind; True when there was one.

    The file holds the time the process was created too: a pid that somebody else got meanwhile is left alone.
    """
    try:
        recorded = pid_path.read_text()
        pid = int(recorded.split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return False
    found = _identity(pid) == recorded
    if found:
        _kill_group(pid)
        deadline = time.monotonic() + _KILL_WAIT_SECONDS
        while _identity(pid) == recorded and time.monotonic() < deadline:
            time.sleep(0.02)
    pid_path.unlink(missing_ok=True)
    return found


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _identity(pid: int) -> str:
    """The pid and when its process was created, which together name a process for good; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{pid} {process.create_time():.2f}\n"
    except psutil.NoSuchProcess:
        return ""
