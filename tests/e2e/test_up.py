"""`cadence up` as a command: started, watched, stopped, interrupted, killed, and started again."""

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.ports import accepts
from tests.e2e.running import RunningStack, cadence

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("demo"), pytest.mark.timeout(180)]

READY = "Cadence is ready at"


@pytest.fixture
def stack(demo: RunningStack) -> RunningStack:
    """Running when a test begins, but for the last ones, which kill it, start it again and stop it."""
    return demo


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in time"
        time.sleep(0.05)


def processes_of(stack: RunningStack) -> set[int]:
    """All processes that have the data directory on their command line or in their environment."""
    found = set()
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.status() != psutil.STATUS_ZOMBIE and any(str(stack.data_dir) in word for word in words):
            found.add(process.pid)
    return found


def pid_of(stack: RunningStack, slug: str) -> int | None:
    """None while it is being started."""
    (pid,) = [process.pid for process in stack.processes() if process.slug == slug]
    return pid


def test_it_says_where_to_go_and_who_may_log_in(stack: RunningStack) -> None:
    username, password = stack.credentials()
    assert f"{READY} {stack.url}" in stack.output
    assert username in stack.output
    assert password in stack.output


def test_what_it_keeps_is_for_its_owner_only(stack: RunningStack) -> None:
    assert stat.S_IMODE(stack.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((stack.data_dir / "secrets.json").stat().st_mode) == 0o600


def test_no_secret_is_on_a_command_line(stack: RunningStack) -> None:
    _, password = stack.credentials()
    lines = [" ".join(psutil.Process(pid).cmdline()) for pid in processes_of(stack)]
    assert not any(password in line for line in lines)
    assert not any(password in log.read_text() for log in (stack.data_dir / "logs").glob("*.log"))


def test_a_second_one_says_that_it_runs_already_and_where(stack: RunningStack) -> None:
    run = stack.run("up")
    assert run.returncode == 1
    assert f"already running at {stack.url}" in run.stderr
    assert stack.process.poll() is None


def test_status_shows_every_process_healthy(stack: RunningStack) -> None:
    assert stack.run("status").returncode == 0
    told = json.loads(stack.run("status", "--json").stdout)
    slugs = {process["slug"] for process in told["processes"] if process["is_healthy"]}
    assert slugs == {"postgres", "mongo", "valkey", "nats", "demo-model", "control-plane", "worker-1"}


def test_health_names_what_each_plane_needs(stack: RunningStack) -> None:
    run = stack.run("health")
    assert run.returncode == 0
    assert "control plane: ready" in run.stdout
    assert "worker 1: ready" in run.stdout


def test_the_stores_can_be_asked(stack: RunningStack) -> None:
    assert "admin" in stack.run("psql", "-tAc", "SELECT username FROM users").stdout
    assert "workers" in stack.run("redis", "KEYS", "work*s").stdout


def test_a_token_works_at_once(stack: RunningStack) -> None:
    token = stack.run("token").stdout.strip()
    assert token.count(".") == 2


def test_stats_show_the_worker(stack: RunningStack) -> None:
    run = stack.run("stats", "--json")
    assert run.returncode == 0
    assert '"worker_id"' in run.stdout


@pytest.mark.parametrize("slug", ["worker-1", "control-plane", "valkey"])
def test_a_killed_process_comes_back(stack: RunningStack, slug: str) -> None:
    before = pid_of(stack, slug)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: pid_of(stack, slug) not in (None, before), f"{slug} started again")
    wait_for(lambda: all(p.is_healthy for p in stack.processes()), "all healthy")


def test_after_a_kill_nothing_is_left_and_the_next_one_starts_with_everything_kept(stack: RunningStack) -> None:
    credentials, ready = stack.credentials(), stack.output.count(READY)
    stack.process.kill()
    stack.process.wait()
    wait_for(lambda: not processes_of(stack), "children gone")
    assert stack.run("status").returncode == 3
    stack.start()
    wait_for(lambda: stack.output.count(READY) > ready, "running again")
    assert stack.run("status").returncode == 0
    assert stack.credentials() == credentials
    assert stack.run("token").returncode == 0


def test_ctrl_c_leaves_no_process_behind(stack: RunningStack) -> None:
    assert stack.stop() == 0
    assert processes_of(stack) == set()
    assert not accepts(stack.port)
    assert "Stopped" in stack.output
    assert stack.run("down").stdout == "Nothing is running.\n"


def test_down_also_stops_one_that_is_still_starting(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "data")
    wait_for(lambda: (stack.data_dir / "run" / "valkey.pid").exists(), "first server started")
    assert stack.run("down").returncode == 0
    assert stack.process.wait(30) == 130
    assert processes_of(stack) == set()


def up(data_dir: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = cadence("up", "--data-dir", str(data_dir), *options)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_occupied_port_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        run = up(tmp_path / "data", "--port", str(port))
    assert run.returncode == 1
    assert run.stderr == f"cadence: Port {port} is in use by another program: choose another with --port.\n"


def test_damaged_secrets_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    run = up(tmp_path)
    assert run.returncode == 1
    assert "secrets.json is damaged" in run.stderr
    assert run.stderr.count("\n") == 1


def test_damaged_data_of_a_server_is_named_and_nothing_stays_running(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    (tmp_path / "secrets.json").write_text(
        '{"secret_key":"a","encryption_keys":"b","worker_token":"c",'
        '"admin_username":"d","admin_email":"e","admin_password":"f"}'
    )
    run = up(tmp_path)
    assert run.returncode == 1
    assert f"PostgreSQL stopped while it was starting, with its data in {tmp_path / 'postgres'}" in run.stderr
    assert run.stderr.endswith("restore it, or start anew with another --data-dir.\n")
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "run").glob("*.pid")) == []


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = up(tmp_path / "file" / "data")
    assert run.returncode == 1
    assert "--data-dir" in run.stderr
    assert run.stderr.count("\n") == 1
