"""RabbitMQ, which no wheel carries: a broker that is there already, or a node of our own from the system's program."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import uuid4

from deploy.errors import ServerUnavailable
from deploy.local.child import Child
from deploy.local.ports import HOST, accepts, free_port
from deploy.local.server import Server
from tests.backing.containers import RABBITMQ
from tests.backing.find import located

VARIABLE = "CADENCE_TEST_RABBITMQ_URL"
_USUAL_PORT, _USUAL_MANAGEMENT_PORT = 5672, 15672
# Debian's /usr/sbin/rabbitmq-server changes to the account `rabbitmq`; the package's own script does not.
_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")


class RabbitNode(Server):
    """A node that shares nothing with one the system may run: own name, cookie, directories, ports and port mapper."""

    name, slug = "RabbitMQ", "rabbitmq"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.management_port = free_port()
        self._mapper_port, self._distribution_port = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    def prepare(self) -> None:
        super().prepare()
        (self.data / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = {HOST}:{self.port}\n"
            f"management.tcp.ip = {HOST}\n"
            f"management.tcp.port = {self.management_port}\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        )
        (self.data / "enabled_plugins").write_text("[rabbitmq_management].\n")

    def child(self) -> Child:
        places = os.pathsep.join((*_PLACES, os.environ.get("PATH", os.defpath)))
        binary = shutil.which("rabbitmq-server", path=places)
        if not binary:
            raise ServerUnavailable("RabbitMQ has no wheel, and the program rabbitmq-server is not installed")
        return Child([binary], environment=self._environment, log_path=self.log_path, pid_path=self.pid_path)

    def is_ready(self) -> bool:
        return accepts(self.port) and management(self.management_port, "GET", "/api/overview")

    def stop(self) -> None:
        super().stop()
        # Erlang starts its port mapper as a daemon, outside our group.
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-kill"], env=self._environment, capture_output=True, check=False)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.data),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
            "RABBITMQ_NODENAME": f"cadence-test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": str(self.data / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.data / "no-such-file"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.data / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data / "log"),
            "RABBITMQ_PID_FILE": str(self.data / "pid"),
            # Schedulers that spin while they wait cost the tests a core.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2",
        }


@contextmanager
def rabbitmq() -> Iterator["Broker"]:
    """A broker for the tests of this process."""
    if VARIABLE not in os.environ and accepts(_USUAL_PORT):
        yield Broker(f"amqp://guest:guest@{HOST}:{_USUAL_PORT}/", _USUAL_MANAGEMENT_PORT)
        return
    nodes: list[RabbitNode] = []

    def own(home: Path) -> Server:
        nodes.append(RabbitNode(home))
        return nodes[0]

    with located(VARIABLE, own, image=RABBITMQ) as url:
        yield Broker(url, nodes[0].management_port if nodes and nodes[0].is_running else _USUAL_MANAGEMENT_PORT)


class Broker:
    """A broker that can give each test a virtual host of its own, where its management answers."""

    def __init__(self, url: str, management_port: int) -> None:
        self._url = url
        self._management_port = management_port

    @contextmanager
    def fresh_url(self) -> Iterator[str]:
        """The URL of an empty virtual host; of the broker's own one, where we may not make any."""
        name = f"cadence-test-{uuid4().hex[:12]}"
        if not self._url.endswith("/") or not management(self._management_port, "PUT", f"/api/vhosts/{name}"):
            yield self._url
            return
        management(
            self._management_port,
            "PUT",
            f"/api/permissions/{name}/guest",
            b'{"configure": ".*", "write": ".*", "read": ".*"}',
        )
        try:
            yield self._url + name
        finally:
            management(self._management_port, "DELETE", f"/api/vhosts/{name}")


def management(port: int, method: str, path: str, body: bytes = b"") -> bool:
    """Whether the management API did it."""
    login = base64.b64encode(b"guest:guest").decode()
    connection = HTTPConnection(HOST, port, timeout=5)
    with suppress(OSError, HTTPException):
        connection.request(method, path, body, {"Authorization": f"Basic {login}", "Content-Type": "application/json"})
        return connection.getresponse().status < 300
    return False
