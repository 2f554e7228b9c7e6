"""One run of the whole stack: from nothing to ready, then watched until it is told to stop."""

import asyncio
import os
import time
from collections.abc import Mapping

import msgspec

from deploy.demo.seed import SeededDemo, SeedFailed, seed
from deploy.errors import DeployError, PortInUse, ServerFailed
from deploy.local.child import reap_orphan
from deploy.local.ports import HOST, is_free
from deploy.local.service import Service
from deploy.stack import backing
from deploy.stack.data_dir import DataDirectory, ProcessState, StackState
from deploy.stack.display import Display
from deploy.stack.environment import plane_environment
from deploy.stack.modules import run_module
from deploy.stack.planes import ControlPlane, DemoModel, Worker
from deploy.stack.schema import is_newest
from deploy.stack.secrets import StackSecrets, load_or_create, save
from deploy.stack.supervisor import Supervisor, start_together, stop_in_reverse

_WATCH_SECONDS = 0.2
_ADMIN_EXISTS = 3
"""An exit code of `control_plane.bootstrap`."""


class StackOptions(msgspec.Struct, frozen=True):
    port: int
    worker_count: int
    with_demo: bool


class Stack:
    """Needs the lock of its directory while it lives."""

    def __init__(
        self, directory: DataDirectory, options: StackOptions, display: Display, variables: Mapping[str, str]
    ) -> None:
        self._directory = directory
        self._options = options
        self._display = display
        self._variables = variables
        self._layers: list[list[Service]] = []
        self.url = f"http://{HOST}:{options.port}"
        self.is_first_start = False
        self.demo: SeededDemo | None = None

    def start(self) -> StackSecrets:
        """Return when everything is ready. Raises DeployError; `stop` is needed in every case."""
        self._end_leftovers()
        if not is_free(self._options.port):
            raise PortInUse(f"Port {self._options.port} is in use by another program: choose another with --port.")
        secrets = load_or_create(self._directory)
        servers, urls = backing.chosen(self._variables, self._directory.path)
        environment = plane_environment(self._directory, secrets, urls)
        self._start([list(servers.values())])
        self._migrate(environment)
        secrets = self._create_admin(secrets, environment)
        self._start(self._planes(environment))
        if self._options.with_demo:
            self._seed_demo(secrets)
        self._directory.write_state(self._state(urls))
        return secrets

    def watch(self) -> None:
        """Bring back what crashes, for ever."""
        supervisor = Supervisor(self._services, self._display.plain)
        while True:
            supervisor.check()
            time.sleep(_WATCH_SECONDS)

    def stop(self) -> None:
        stop_in_reverse(self._layers)

    def _end_leftovers(self) -> None:
        """Of a run that was killed so hard that it could not take its children along."""
        for pid_path in sorted(self._directory.run.glob("*.pid")):
            reap_orphan(pid_path)

    @property
    def _services(self) -> list[Service]:
        return [service for layer in self._layers for service in layer]

    def _start(self, layers: list[list[Service]]) -> None:
        """Start all together; a later layer uses an earlier one, and is stopped before it."""
        # Known before they run, so that `stop` reaches them whatever happens.
        self._layers.extend(layers)
        start_together([service for layer in layers for service in layer], self._display)

    def _migrate(self, environment: Mapping[str, str]) -> None:
        if is_newest(backing.owners_url(environment)):
            return
        self._display.begin("migrations")
        run = run_module("migrations", environment)
        if run.returncode:
            raise ServerFailed(f"The database could not be migrated:\n{run.stderr.strip()}")
        self._display.done("migrations")

    def _create_admin(self, secrets: StackSecrets, environment: Mapping[str, str]) -> StackSecrets:
        if secrets.is_admin_created:
            return secrets
        self._display.begin("first admin")
        run = run_module(
            "control_plane.bootstrap",
            {**environment, "CADENCE_ADMIN_PASSWORD": secrets.admin_password},
            *("--username", secrets.admin_username, "--email", secrets.admin_email),
        )
        # An account made just before an earlier start was interrupted has the password that was kept before that.
        if run.returncode not in (0, _ADMIN_EXISTS):
            raise ServerFailed(f"The first admin could not be created:\n{run.stderr.strip()}")
        self._display.done("first admin")
        self.is_first_start = True
        created = msgspec.structs.replace(secrets, is_admin_created=True)
        save(self._directory, created)
        return created

    def _planes(self, environment: Mapping[str, str]) -> list[list[Service]]:
        home = self._directory.path
        # The login that owns the tables is for migrations: no plane could be kept from anything with it.
        environment = {name: value for name, value in environment.items() if name != backing.MIGRATION_URL}
        demo: list[Service] = [DemoModel(home)] if self._options.with_demo else []
        control_plane: Service = ControlPlane(home, port=self._options.port, environment=environment)
        workers: list[Service] = [
            Worker(home, number, control_plane_url=self.url, environment=environment)
            for number in range(1, self._options.worker_count + 1)
        ]
        return [demo, [control_plane], workers]

    def _seed_demo(self, secrets: StackSecrets) -> None:
        model_url = next(service.url for service in self._services if isinstance(service, DemoModel)) + "/v1"
        self._display.begin("demo")
        try:
            self.demo = asyncio.run(seed(self.url, secrets.admin_username, secrets.admin_password, model_url))
        except SeedFailed as error:
            raise DeployError(f"The demo could not be set up: {error}") from None
        self._display.done("demo")

    def _state(self, urls: Mapping[str, str]) -> StackState:
        processes = tuple(
            ProcessState(name=service.name, slug=service.slug, port=service.port, url=service.url)
            for service in self._services
        )
        return StackState(pid=os.getpid(), url=self.url, processes=processes, backing=dict(urls))
