"""A process of ours that listens on a port: started, watched, stopped."""

import time
from abc import ABC, abstractmethod
from pathlib import Path

from deploy.errors import PortInUse, ServerFailed
from deploy.local.child import Child, reap_orphan
from deploy.local.ports import free_port, is_free

_POLL_SECONDS = 0.01
_RELEASE_SECONDS = 3.0


class Service(ABC):
    """Keeps its log and its pid file under `home`, and its port over restarts. A port that is not given is chosen."""

    name: str
    """As people call it: PostgreSQL, control plane, …"""
    slug: str
    """As files are called: postgres, control-plane, …"""
    start_seconds = 30.0
    """How long it may take to be ready."""
    stop_seconds = 10.0
    """How long it may take to shut down before it is killed."""

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        self.home = home
        self.port = port or free_port()
        self._child: Child | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it answers, in the form that an environment variable takes."""

    @property
    def log_path(self) -> Path:
        return self.home / "logs" / f"{self.slug}.log"

    @property
    def pid_path(self) -> Path:
        return self.home / "run" / f"{self.slug}.pid"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    @property
    def exit_code(self) -> int | None:
        return self._child.exit_code if self._child else None

    def start(self) -> None:
        """Return when it answers. Raises ServerUnavailable, PortInUse, ServerFailed."""
        if self.is_running:
            return
        self.launch()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process without waiting; also after a crash, of which nothing is left running then."""
        was_ours = self._child is not None
        self.kill()
        was_ours |= reap_orphan(self.pid_path)
        if not is_free(self.port) and not (was_ours and self._becomes_free()):
            raise PortInUse(f"{self.name} cannot start: port {self.port} is in use by another program.")
        self.prepare()
        child = self.child()
        child.start()
        self._child = child

    def stop(self) -> None:
        """Shut down in good order. Safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(grace_seconds=self.stop_seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash would do it; `start` brings it back."""
        if self._child is not None:
            self._child.kill()

    def pause(self) -> None:
        """Connections stay open and nothing answers."""
        if self._child is not None:
            self._child.pause()

    def resume(self) -> None:
        if self._child is not None:
            self._child.resume()

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what must exist before the process starts."""

    @abstractmethod
    def child(self) -> Child:
        """The process, not started yet."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers now; asked again and again while it starts."""

    def failure(self, what: str) -> str:
        """A sentence for the operator, with the end of the log."""
        tail = self._child.log_tail() if self._child else ""
        return f"{self.name} {what}. Its log is {self.log_path}" + (f" and ends:\n{tail}" if tail else ", and empty.")

    def _becomes_free(self) -> bool:
        """The port of a process just killed: its own children may need a moment to be gone."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        while time.monotonic() < deadline:
            if is_free(self.port):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self.is_ready():
            if not self.is_running:
                raise ServerFailed(self.failure("stopped while it was starting"))
            if time.monotonic() > deadline:
                raise ServerFailed(self.failure(f"was not ready within {self.start_seconds:.0f} s"))
            time.sleep(_POLL_SECONDS)
