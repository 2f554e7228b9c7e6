"""A closed-loop client of a JSON API: N clients, each on one connection, each sends its next request when it has the
answer. It does as little as possible for each, since it shares its core with the stores.

Reads a `RestLoad` as JSON on standard input, writes a `RestResult` as JSON. Times are in milliseconds.

    python -m tests.benchmarks.rest_load < load.json
"""

import asyncio
import re
import sys
from array import array
from functools import partial
from time import perf_counter
from urllib.parse import urlsplit

import msgspec
import uvloop

NUMBER = b"{number}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE = re.compile(rb'"code":"([A-Z0-9-]+)"')


class Place(msgspec.Struct, frozen=True):
    """Where a client asks, and as whom."""

    path: str
    headers: dict[str, str] = {}


class RestLoad(msgspec.Struct, frozen=True):
    """Clients take `places` in turns. `{number}` in the body is a new number in every request, from `first_number` on;
    all of `requests` are expected to be answered with `status`."""

    method: str
    base_url: str
    places: list[Place]
    clients: int
    requests: int
    status: int = 200
    body: str = ""
    first_number: int = 0


class RestResult(msgspec.Struct, frozen=True):
    """`took_ms` of those that were answered as expected."""

    answered: int
    errors: dict[str, int]
    seconds: float
    took_ms: list[float]


class _Run:
    """What all clients share: how many requests are left, and what was measured."""

    def __init__(self, load: RestLoad) -> None:
        self.load = load
        self.left = load.requests
        self.number = load.first_number
        self.open = 0
        self.errors: dict[str, int] = {}
        self.took_ms = array("d")
        self.finished = asyncio.Event()

    def fail(self, why: str) -> None:
        self.errors[why] = self.errors.get(why, 0) + 1


class _Client(asyncio.Protocol):
    def __init__(self, run: _Run, place: Place) -> None:
        self._run = run
        self._status = f"HTTP/1.1 {run.load.status} ".encode()
        parts = urlsplit(run.load.base_url)
        lines = [f"{run.load.method} {place.path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in place.headers.items()]
        if run.load.body:
            lines.append("Content-Type: application/json")
        self._head = "\r\n".join(lines).encode()
        self._body = run.load.body.encode()
        self._busy = False
        self._answer = b""
        self._whole = 0
        self._started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP
        self._run.open += 1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._run.fail("connection lost")
        self._run.open -= 1
        if not self._run.open:
            self._run.finished.set()

    def data_received(self, data: bytes) -> None:
        self._answer = self._answer + data if self._answer else data
        if not self._whole:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._answer, 0, end)
            self._whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._answer) >= self._whole:
            self._ended()

    def _next(self) -> None:
        run = self._run
        if run.left <= 0:
            self._transport.close()
            return
        run.left -= 1
        self._busy, self._answer, self._whole = True, b"", 0
        body = self._body.replace(NUMBER, b"%d" % run.number)
        run.number += 1
        length = b"\r\nContent-Length: %d" % len(body) if body else b""
        self._started = perf_counter()
        self._transport.write(self._head + length + b"\r\n\r\n" + body)

    def _ended(self) -> None:
        took = perf_counter() - self._started
        self._busy = False
        if self._answer.startswith(self._status):
            self._run.took_ms.append(took * 1000)
        else:
            code = _CODE.search(self._answer)
            status = self._answer[9:12].decode(errors="replace")
            self._run.fail(f"HTTP {status}" + (f" {code[1].decode()}" if code else ""))
        self._next()


async def run(load: RestLoad) -> RestResult:
    """Send all requests. Connection errors are counted like any other."""
    state = _Run(load)
    loop = asyncio.get_running_loop()
    parts = urlsplit(load.base_url)
    started = perf_counter()
    for number in range(load.clients):
        client = partial(_Client, state, load.places[number % len(load.places)])
        try:
            await loop.create_connection(client, parts.hostname or "127.0.0.1", parts.port or 80)
        except OSError as error:
            state.fail(str(error))
    if state.open:
        await state.finished.wait()
    return RestResult(
        answered=len(state.took_ms),
        errors=state.errors,
        seconds=perf_counter() - started,
        took_ms=list(state.took_ms),
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=RestLoad))))
    )
