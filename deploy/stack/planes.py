"""Our own processes: the control plane, runtime workers, the demo model."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from deploy.local.child import Child
from deploy.local.ports import HOST
from deploy.local.service import Service

_PROBE_SECONDS = 3.0
_DRAIN_SECONDS = 5
"""Whoever stops a stack at a terminal waits for it; in production live streams get longer."""


class Plane(Service):
    """`python -m <module>`, ready when its health route says so."""

    ready_path = "/health/ready"
    # The first start in a fresh checkout compiles every module that is imported, on a slow machine for a while.
    start_seconds = 120.0
    # A little more than a worker takes to finish its streams and Granian to give up on it.
    stop_seconds = 20.0

    def __init__(
        self,
        home: Path,
        *,
        name: str,
        module: str,
        environment: Mapping[str, str],
        port: int | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        super().__init__(home, port=port)
        self.name = name
        self.slug = name.replace(" ", "-")
        self._module = module
        self._arguments = arguments
        self._environment = dict(environment)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def child(self) -> Child:
        return Child(
            [sys.executable, "-m", self._module, *self._arguments],
            environment={**os.environ, **self._environment},
            log_path=self.log_path,
            pid_path=self.pid_path,
            # Granian starts processes of its own, which only an orderly end takes along.
            death_signal=signal.SIGTERM,
        )

    def is_ready(self) -> bool:
        return answers_ok(self.port, self.ready_path)


class ControlPlane(Plane):
    def __init__(self, home: Path, *, port: int, environment: Mapping[str, str]) -> None:
        own = {"CADENCE_API_HOST": HOST, "CADENCE_API_PORT": str(port)}
        super().__init__(
            home, name="control plane", module="control_plane", port=port, environment={**environment, **own}
        )


class Worker(Plane):
    def __init__(self, home: Path, number: int, *, control_plane_url: str, environment: Mapping[str, str]) -> None:
        super().__init__(home, name=f"worker {number}", module="runtime_worker", environment={})
        self._environment = {
            **environment,
            "CADENCE_WORKER_HOST": HOST,
            "CADENCE_WORKER_PORT": str(self.port),
            "CADENCE_WORKER_URL": self.url,
            "CADENCE_CONTROL_PLANE_URL": control_plane_url,
            "CADENCE_DRAIN_SECONDS": str(_DRAIN_SECONDS),
        }


class DemoModel(Plane):
    ready_path = "/health"

    def __init__(self, home: Path) -> None:
        super().__init__(home, name="demo model", module="deploy.demo.model_server", environment={})
        self._arguments = ("--port", str(self.port))


def answers_ok(port: int, path: str) -> bool:
    """Whether GET on `path` is answered with 200."""
    connection = HTTPConnection(HOST, port, timeout=_PROBE_SECONDS)
    with contextlib.suppress(OSError, HTTPException), contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False
