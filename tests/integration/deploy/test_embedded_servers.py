"""The embedded servers by themselves: data kept, crashes survived, nothing left behind, root or not."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pymongo
import pytest
from redis import Redis

from deploy.errors import PortInUse, ServerFailed, ServerUnavailable
from deploy.local import mongo, postgres
from deploy.local.child import reap_orphan
from deploy.local.mongo import Mongo
from deploy.local.nats import Nats
from deploy.local.ports import accepts, free_port
from deploy.local.postgres import Postgres
from deploy.local.server import Server
from deploy.local.valkey import Valkey
from deploy.local.wheels import program
from deploy.stack.supervisor import start_together
from tests.fakes.display import SilentDisplay

ALL: list[type[Server]] = [Postgres, Mongo, Valkey, Nats]


@pytest.fixture
def home() -> Iterator[Path]:
    # Not below pytest's directories: those are deeper than what some of these tests are about.
    path = Path(tempfile.mkdtemp(prefix="cadence-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def started(home: Path) -> Iterator[Callable[[type[Server]], Server]]:
    servers: list[Server] = []

    def start(kind: type[Server]) -> Server:
        server = kind(home)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


def write(server: Server) -> None:
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    elif isinstance(server, Mongo):
        with pymongo.MongoClient[dict[str, int]](server.url) as client:
            client.kept.numbers.insert_one({"number": 7})
    else:
        with Redis.from_url(server.url) as redis:
            redis.set("kept", 7)


def read(server: Server) -> int:
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT number FROM kept").fetchone()
        return int(row[0]) if row else 0
    if isinstance(server, Mongo):
        with pymongo.MongoClient[dict[str, int]](server.url) as client:
            found = client.kept.numbers.find_one()
        return found["number"] if found else 0
    with Redis.from_url(server.url) as redis:
        return int(redis.get("kept") or 0)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", [Postgres, Mongo, Valkey])
def test_data_survives_a_stop_and_a_start_on_another_port(
    started: Callable[[type[Server]], Server], home: Path, kind: type[Server]
) -> None:
    first = started(kind)
    write(first)
    first.stop()
    second = kind(home)
    second.start()
    try:
        assert second.port != first.port
        assert read(second) == 7
    finally:
        second.stop()


@pytest.mark.parametrize("kind", [Postgres, Mongo])
def test_a_killed_server_comes_back_with_what_it_had_confirmed(
    started: Callable[[type[Server]], Server], kind: type[Server]
) -> None:
    server = started(kind)
    write(server)
    server.kill()
    assert not server.is_running
    server.start()
    assert read(server) == 7


def test_a_paused_server_is_silent_and_then_goes_on(started: Callable[[type[Server]], Server]) -> None:
    server = started(Valkey)
    server.pause()
    with Redis.from_url(server.url, socket_timeout=0.2, retry=None) as redis:
        with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
            redis.ping()
        server.resume()
        assert redis.ping()


def test_all_start_together(home: Path) -> None:
    servers = [kind(home) for kind in ALL]
    try:
        start_together(servers, SilentDisplay())
        assert all(accepts(server.port) for server in servers)
    finally:
        for server in servers:
            server.stop()
    assert not any(accepts(server.port) for server in servers)
    assert list((home / "run").glob("*.pid")) == []


def test_when_one_cannot_start_the_others_do_not_stay(home: Path) -> None:
    good, bad = Valkey(home), Nats(home)
    (home / "nats").write_text("not a directory")
    with pytest.raises((ServerFailed, OSError)):
        start_together([good, bad], SilentDisplay())
    wait_for(lambda: not accepts(good.port))


def test_an_occupied_port_is_named(home: Path, started: Callable[[type[Server]], Server]) -> None:
    port = started(Valkey).port
    with pytest.raises(PortInUse, match=str(port)):
        Nats(home, port=port).start()


@pytest.mark.parametrize(("kind", "victim"), [(Postgres, "global/pg_control"), (Mongo, "WiredTiger.wt")])
def test_damaged_data_is_reported_with_its_place_and_the_log(home: Path, kind: type[Server], victim: str) -> None:
    server = kind(home)
    server.start()
    server.stop()
    (server.data / victim).write_bytes(b"garbage" * 100)
    with pytest.raises(ServerFailed, match=str(server.data)) as caught:
        server.start()
    assert str(server.log_path) in str(caught.value)
    assert not server.is_running


def test_a_missing_wheel_is_one_sentence_that_says_what_to_do() -> None:
    with pytest.raises(ServerUnavailable, match="CADENCE_REDIS_URL") as caught:
        program("no-such-distribution", "valkey-server", server="Valkey", variable="CADENCE_REDIS_URL")
    assert "\n" not in str(caught.value)


def test_mongod_runs_with_borrowed_libraries_where_the_system_has_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "_misses_libraries", lambda _: True)
    server = Mongo(home)
    server.start()
    try:
        maps = Path(f"/proc/{server.pid}/maps").read_text()
        assert "pycurl.libs" in maps
        assert "/libssl.so.3" not in maps.replace(str(home), "")
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_postgres_runs_for_root_also_where_namespaces_are_forbidden(
    home: Path, started: Callable[[type[Server]], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_namespaces_work", lambda: False)
    home.chmod(0o700)
    server = started(Postgres)
    write(server)
    server.stop()
    server.start()
    assert read(server) == 7
    assert psutil.Process(server.pid).uids().effective == 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="the rest of the tests run as an ordinary user then")
def test_the_servers_run_for_an_ordinary_user(home: Path) -> None:
    home.chmod(0o777)
    user_id = pwd.getpwnam("daemon").pw_uid
    script = (
        "import os, pathlib, sys\n"
        "from deploy.local.postgres import Postgres\nfrom deploy.local.mongo import Mongo\n"
        "from deploy.local.valkey import Valkey\nfrom deploy.local.nats import Nats\n"
        "assert os.geteuid() != 0\n"
        "for kind in (Postgres, Mongo, Valkey, Nats):\n"
        "    server = kind(pathlib.Path(sys.argv[1]) / 'data')\n"
        "    server.start()\n"
        "    server.stop()\n"
    )
    # The right to pass through directories stays, since the interpreter may be in one that only root may enter.
    ordinary = ["setpriv", f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups"]
    rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    command = [*ordinary, *rights, sys.executable, "-B", "-c", script, str(home)]
    environment = {**os.environ, "HOME": str(home)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert run.returncode == 0, run.stderr


HOLDER = """
import pathlib, sys
from deploy.local.postgres import Postgres
from deploy.local.valkey import Valkey
home = pathlib.Path(sys.argv[1])
for kind, port in ((Postgres, sys.argv[2]), (Valkey, sys.argv[3])):
    kind(home, port=int(port)).start()
print("started", flush=True)
sys.stdin.read()
"""


def test_servers_do_not_outlive_a_parent_that_is_killed(home: Path) -> None:
    ports = [free_port(), free_port()]
    arguments = [sys.executable, "-c", HOLDER, str(home), *map(str, ports)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"started\n"
        assert all(map(accepts, ports))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_for(lambda: not any(map(accepts, ports)))
    # And the next start finds its way around what was left.
    again = Postgres(home)
    again.start()
    again.stop()


def test_an_orphan_is_ended_and_a_stranger_with_its_number_is_not(home: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        created = psutil.Process(process.pid).create_time()
        pid_path = home / "sleep.pid"
        pid_path.write_text(f"{process.pid} {created - 100:.2f}\n")
        assert not reap_orphan(pid_path)
        assert process.poll() is None
        pid_path.write_text(f"{process.pid} {created:.2f}\n")
        assert reap_orphan(pid_path)
        assert process.wait(5) == -signal.SIGKILL
