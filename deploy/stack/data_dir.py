"""The directory that holds everything of a stack, and the lock that lets one `cadence up` at a time use it."""

import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from deploy.errors import AlreadyRunning, DataDirectoryUnusable

DEFAULT = Path(".cadence")
_OWNER_ONLY_DIRECTORY, _OWNER_ONLY_FILE = 0o700, 0o600


class ProcessState(msgspec.Struct, frozen=True):
    """One process of a running stack."""

    name: str
    slug: str
    port: int
    url: str


class StackState(msgspec.Struct, frozen=True):
    """What a running `cadence up` tells other commands about itself; written once all is ready.

    `backing` holds the servers' URLs by the names of their environment variables, servers not started by us included.
    """

    pid: int
    url: str
    processes: tuple[ProcessState, ...]
    backing: dict[str, str]


class DataDirectory:
    """Paths in the directory, and what is written there by us rather than by a server."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def packages(self) -> Path:
        return self.path / "packages"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.json"

    @property
    def _lock_file(self) -> Path:
        return self.run / "up.lock"

    @property
    def _owner_file(self) -> Path:
        return self.run / "up.owner"

    @property
    def _state_file(self) -> Path:
        return self.run / "stack.json"

    def command_options(self) -> str:
        """What a command line needs in order to mean this directory; empty where it is the usual one."""
        return "" if self.path == DEFAULT.resolve() else f" --data-dir {shlex.quote(str(self.path))}"

    def create(self) -> None:
        """Make it, readable by its owner only. Raises DataDirectoryUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(_OWNER_ONLY_DIRECTORY)
            for directory in (self.logs, self.run, self.packages):
                directory.mkdir(exist_ok=True)
        except OSError as error:
            raise DataDirectoryUnusable(
                f"The data directory {self.path} cannot be used: {error.strerror}. Choose another with --data-dir."
            ) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises AlreadyRunning. The kernel drops the lock with the process, so none is ever left behind."""
        with self._lock_file.open("a") as lock:
            if not _try_lock(lock):
                state = self.state()
                where = f" at {state.url}" if state else ", and is still starting"
                raise AlreadyRunning(f"Cadence is already running{where}. Stop it with `cadence down`.")
            self._state_file.unlink(missing_ok=True)
            write_private(self._owner_file, str(os.getpid()).encode())
            try:
                yield
            finally:
                self._state_file.unlink(missing_ok=True)
                self._owner_file.unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether a `cadence up` runs, or is starting or stopping."""
        try:
            with self._lock_file.open("a") as lock:
                return not _try_lock(lock)
        except OSError:
            return False

    def wait_until_unlocked(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while self.is_locked():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def owner_pid(self) -> int | None:
        """The `cadence up` that runs, also while it is starting."""
        if not self.is_locked():
            return None
        try:
            return int(self._owner_file.read_text())
        except (OSError, ValueError):
            return None

    def state(self) -> StackState | None:
        """The running stack, None when nothing runs or it is not ready yet."""
        if not self.is_locked():
            return None
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=StackState)
        except (OSError, msgspec.DecodeError):
            return None

    def write_state(self, state: StackState) -> None:
        write_private(self._state_file, msgspec.json.format(msgspec.json.encode(state)))


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by its owner only from the first moment."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
