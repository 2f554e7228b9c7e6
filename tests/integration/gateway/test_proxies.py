"""The shipped configurations of nginx and HAProxy, run by the real programs with our own addresses put in."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from yarl import URL

from deploy.local.ports import accepts, free_port
from shared.placement import place_of, rank
from tests.backing.find import give_up
from tests.fakes.worker_server import WorkerServer, draining, plain, worker_server
from tests.integration.gateway.conftest import SECONDS

CONFIGURATIONS = Path(__file__).parents[3] / "deploy" / "gateway"
_PLACES = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin:/usr/bin"
ORG = uuid4()


class Fleet:
    def __init__(self, program: str, url: str, workers: list[WorkerServer], control_plane: WorkerServer) -> None:
        self.program = program
        self.url = url
        self.workers = workers
        self.control_plane = control_plane

    def chat(self, instance_id: object) -> str:
        return f"{self.url}/api/orgs/{ORG}/orchestrators/{instance_id}/completion/stream"


@pytest.fixture(params=["nginx", "haproxy"])
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    program = str(request.param)
    binary = shutil.which(program, path=_PLACES)
    if binary is None:
        give_up(f"the program {program} is not installed")
    async with (
        worker_server("worker-1") as one,
        worker_server("worker-2") as two,
        worker_server("control-plane") as control_plane,
    ):
        port = free_port()
        command = _nginx if program == "nginx" else _haproxy
        async with _running(command(binary, tmp_path, port, [one, two], control_plane), port, tmp_path):
            yield Fleet(program, f"http://127.0.0.1:{port}", [one, two], control_plane)


def _nginx(binary: str, home: Path, port: int, workers: list[WorkerServer], control_plane: WorkerServer) -> list[str]:
    text = _with_addresses((CONFIGURATIONS / "nginx.conf").read_text(), port, workers, control_plane)
    places = "".join(
        f"{name}_temp_path {home}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(text.replace("http {", "http {" + places, 1))
    directives = f"daemon off; master_process off; pid {home}/pid; error_log stderr notice;"
    return [binary, "-p", str(home), "-e", "stderr", "-c", str(home / "nginx.conf"), "-g", directives]


def _haproxy(binary: str, home: Path, port: int, workers: list[WorkerServer], control_plane: WorkerServer) -> list[str]:
    text = _with_addresses((CONFIGURATIONS / "haproxy.cfg").read_text(), port, workers, control_plane)
    (home / "haproxy.cfg").write_text(text)
    return [binary, "-db", "-f", str(home / "haproxy.cfg")]


def _with_addresses(text: str, port: int, workers: list[WorkerServer], control_plane: WorkerServer) -> str:
    replaced = {
        "worker-1:8100": f"127.0.0.1:{workers[0].port}",
        "worker-2:8100": f"127.0.0.1:{workers[1].port}",
        "control-plane:8000": f"127.0.0.1:{control_plane.port}",
        "listen 8080": f"listen 127.0.0.1:{port}",
        "bind :8080": f"bind 127.0.0.1:{port}",
        # A few processes are enough here.
        "worker_processes auto": "worker_processes 1",
        "worker_connections 16384": "worker_connections 256",
        "maxconn 20000": "maxconn 200",
        "/usr/local/etc/haproxy/rendezvous.lua": str(CONFIGURATIONS / "rendezvous.lua"),
    }
    for name, value in replaced.items():
        text = text.replace(name, value)
    return text


@asynccontextmanager
async def _running(command: list[str], port: int, home: Path) -> AsyncIterator[None]:
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(SECONDS):
            while not accepts(port):
                assert process.poll() is None, (home / "log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


async def test_an_instance_stays_with_one_worker_and_instances_are_spread(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    served: dict[str, set[str]] = {}
    for _ in range(3):
        for number in range(12):
            async with client.post(fleet.chat(f"instance-{number}"), json={}) as answer:
                served.setdefault(str(number), set()).add((await answer.json())["worker"])

    assert all(len(by) == 1 for by in served.values())
    assert {worker for by in served.values() for worker in by} == {"worker-1", "worker-2"}


async def test_haproxy_and_the_workers_agree_on_who_gets_what_also_when_one_is_gone(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    if fleet.program != "haproxy":
        return
    by_place = {place_of(w.url): w.worker_id for w in fleet.workers}

    async def served_by(number: int) -> str:
        async with client.post(fleet.chat(f"instance-{number}"), json={}) as answer:
            return str((await answer.json())["worker"])

    numbers = range(16)
    expected = [by_place[rank(f"instance-{number}", by_place)[0]] for number in numbers]
    assert [await served_by(number) for number in numbers] == expected
    assert set(expected) == set(by_place.values())
    gone, other = fleet.workers
    await gone.stop()
    assert [await served_by(number) for number in numbers] == [other.worker_id] * len(numbers)


async def test_events_pass_unbuffered_and_a_client_that_leaves_is_noticed(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    for worker in fleet.workers:
        worker.answer = worker.sse
    async with client.post(fleet.chat("one"), json={}) as answer:
        serving = next(w for w in fleet.workers if w.requests)
        for event in (b": ping\n\n", b"event: message\ndata: {}\n\n"):
            serving.chunks.put_nowait(event)
            assert await answer.content.readexactly(len(event)) == event
        answer.close()
    await asyncio.wait_for(serving.client_left.wait(), SECONDS)


async def test_a_dead_worker_costs_no_request(fleet: Fleet, client: aiohttp.ClientSession) -> None:
    gone, other = fleet.workers
    await gone.stop()
    for number in range(8):
        async with client.post(fleet.chat(f"instance-{number}"), json={}) as answer:
            assert answer.status == 200
            assert (await answer.json())["worker"] == other.worker_id


async def test_a_worker_that_leaves_costs_no_request_and_what_all_workers_refuse_is_refused(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    leaving, other = fleet.workers
    leaving.answer = draining
    for number in range(8):
        async with client.post(fleet.chat(f"instance-{number}"), json={}) as answer:
            assert (answer.status, (await answer.json())["worker"]) == (200, other.worker_id)
    other.answer = draining
    async with client.post(fleet.chat("one"), json={}) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (503, "SY-0002")
    other.answer = plain
    async with client.post(fleet.chat("one"), json={}) as answer:
        assert answer.status == 200


async def test_chat_goes_to_workers_and_everything_else_to_the_control_plane(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    org = f"/api/orgs/{ORG}"
    for path, goes_to in (
        (f"{org}/completion/chat", "worker"),
        (f"{org}/orchestrators/i1/v1/models", "worker"),
        (f"{org}/central-points/p1/completion/chat", "worker"),
        (f"{org}/central-points/p1/v1/models", "worker"),
        (f"{org}/runs/r1/stream", "worker"),
        (f"{org}/central-points/p1", "control-plane"),
        (f"{org}/central-points", "control-plane"),
        (f"{org}/conversations", "worker"),
        (f"{org}/conversations/c1/messages", "worker"),
        (f"{org}/orchestrators/i1", "control-plane"),
        (f"{org}/orchestrators/i1/status", "control-plane"),
        ("/api/me", "control-plane"),
        ("/openapi.json", "control-plane"),
    ):
        async with client.get(fleet.url + path) as answer:
            assert str((await answer.json())["worker"]).startswith(goes_to), path


async def test_what_is_meant_for_workers_is_not_reachable_from_outside(
    fleet: Fleet, client: aiohttp.ClientSession
) -> None:
    for path in ("/internal/changes", "/internal/snapshots/x", "//internal/changes", "/%69nternal/changes"):
        async with client.get(URL(fleet.url + path, encoded=True)) as answer:
            assert answer.status == 404, path
    assert fleet.control_plane.requests == []


async def test_a_caller_cannot_say_where_it_calls_from(fleet: Fleet, client: aiohttp.ClientSession) -> None:
    async with client.post(fleet.chat("one"), json={}, headers={"X-Forwarded-For": "6.6.6.6"}) as answer:
        assert answer.status == 200
    ((_, _, headers, _),) = [r for w in fleet.workers for r in w.requests]
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")


async def test_a_chat_body_over_a_mebibyte_is_refused(fleet: Fleet, client: aiohttp.ClientSession) -> None:
    async with client.post(fleet.chat("one"), data=b"x" * (1024 * 1024 + 1)) as answer:
        assert answer.status == 413
    assert not [r for w in fleet.workers for r in w.requests]
