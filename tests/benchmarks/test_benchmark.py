"""The benchmark's own parts work and count right. Nothing here looks at how long anything took."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks import engines, plugins
from tests.benchmarks.load import Load, run
from tests.benchmarks.report import Report
from tests.benchmarks.rest_load import Place, RestLoad
from tests.benchmarks.rest_load import run as ask


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """Streams as many events as the path says, in writes of seven bytes; `/refuse` is a 503."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                path = head.split()[1].decode()
                for part in _parts(path):
                    writer.write(part)
                    await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def _parts(path: str) -> list[bytes]:
    if path == "/refuse":
        return [b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\n\r\nnot now"]
    event = b'event: message\ndata: {"content":"hi"}\n\n'
    chunks = b"%x\r\n%b\r\n" % (len(event), event) * int(path.rpartition("/")[2])
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return [body[start : start + 7] for start in range(0, len(body), 7)]


async def test_every_token_of_every_stream_is_counted_once_however_it_is_cut(server: str) -> None:
    result = await run(Load(url=f"{server}/tokens/9", body="{}", clients=3, requests=7, tokens=9))

    assert (result.answered, result.tokens, result.errors) == (7, 63, {})
    assert len(result.first_ms) == len(result.total_ms) == len(result.longest_silence_ms) == 7


async def test_an_answer_cut_short_is_an_error_and_not_a_fast_one(server: str) -> None:
    result = await run(Load(url=f"{server}/tokens/8", body="{}", clients=1, requests=2, tokens=9))

    assert result.answered == 0
    assert [(why.startswith("only 8 of 9 tokens"), count) for why, count in result.errors.items()] == [(True, 2)]


async def test_a_refusal_is_reported_with_its_status(server: str) -> None:
    result = await run(Load(url=f"{server}/refuse", body="{}", clients=1, requests=1, tokens=1))

    assert [why[:8] for why in result.errors] == ["HTTP 503"]


async def test_requests_of_a_json_api_are_counted_however_their_answers_are_cut() -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                seen.append(await reader.readexactly(5))
                status = b"201 Created" if len(seen) != 2 else b"409 Conflict"
                body = b"HTTP/1.1 " + status + b'\r\nContent-Length: 18\r\n\r\n{"code":"CP-0001"}'
                for start in range(0, len(body), 7):
                    writer.write(body[start : start + 7])
                    await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        result = await ask(
            RestLoad("POST", url, [Place("/a")], clients=1, requests=4, status=201, body="no: {number}", first_number=6)
        )

    assert seen == [b"no: 6", b"no: 7", b"no: 8", b"no: 9"]
    assert (result.answered, len(result.took_ms), result.errors) == (3, 3, {"HTTP 409 CP-0001": 1})


def test_a_quick_run_measures_plugin_hosts(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.benchmarks", "plugins", "--quick", "--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert msgspec.json.decode(file.read_bytes(), type=plugins.Report).idle_mb > 1
    assert "in a host" in ended.stdout


def test_a_quick_run_measures_builds_of_an_engine(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    options = ["--quick", "--builds-only", "--only", "langgraph grounded", "--json", str(file)]
    command = [sys.executable, "-m", "tests.benchmarks", "engines", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    (row,) = msgspec.json.decode(file.read_bytes(), type=engines.Report).rows
    assert row.crowd is not None
    assert row.crowd.build_p50_ms > 0
    assert "langgraph grounded" in ended.stdout


def test_a_quick_run_measures_the_relay_without_errors(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--relay-only", "--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    assert [row.server for row in report.rows] == ["relay"]
    assert report.rows[0].errors == {}
    assert "relay" in ended.stdout
