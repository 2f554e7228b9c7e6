"""A closed-loop load client: N clients, each on one connection, each sends its next request when an answer has ended.

Reads a `Load` as JSON on standard input, writes a `LoadResult` as JSON. Times are in milliseconds.

    python -m tests.benchmarks.load < load.json
"""

import asyncio
import re
import sys
from functools import partial
from random import Random
from time import perf_counter
from urllib.parse import urlsplit

import msgspec
import uvloop

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_ERROR = re.compile(rb"event: error\ndata: ([^\n]*)")
_CODE = re.compile(rb'"code":"([A-Z0-9-]+)"')
_CONVERSATION = re.compile(rb'"conversation_id":"([0-9a-f-]{36})"')
_OPENING = b"event: metadata"
_LONGEST_MARK_BYTES = 64


class Load(msgspec.Struct, frozen=True):
    """`mark` is what each token's event holds once; an answer with fewer than `tokens` of them is an error. A client
    waits up to `pause_ms` before its next request, at random and the same in every run. Where `goes_on`, all requests
    of a client but its first are turns of the conversation that it began with that, and only they are measured."""

    url: str
    body: str
    clients: int
    requests: int
    tokens: int
    mark: str = "event: message"
    headers: dict[str, str] = {}
    pause_ms: float = 0
    goes_on: bool = False


class LoadResult(msgspec.Struct, frozen=True):
    """Per request: `opening_ms` to the `metadata` event (of servers that send one), `first_ms` to the first token,
    `total_ms`, and `longest_silence_ms`, the longest pause between two of its tokens."""

    answered: int
    tokens: int
    errors: dict[str, int]
    seconds: float
    opening_ms: list[float]
    first_ms: list[float]
    total_ms: list[float]
    longest_silence_ms: list[float]


class _Run:
    """What all clients share: how many requests are left, and what was measured."""

    def __init__(self, load: Load) -> None:
        self.load = load
        parts = urlsplit(load.url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
        self._lines = lines + [f"{name}: {value}" for name, value in load.headers.items()]
        self.request = self.request_of(load.body.encode())
        self.left = load.requests
        self.open = 0
        self.answered = self.tokens = 0
        self.errors: dict[str, int] = {}
        self.opening_ms: list[float] = []
        self.first_ms: list[float] = []
        self.total_ms: list[float] = []
        self.longest_silence_ms: list[float] = []
        self.finished = asyncio.Event()

    def request_of(self, body: bytes) -> bytes:
        return "\r\n".join([*self._lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def turn_of(self, conversation_id: bytes) -> bytes:
        """The request as another turn of a conversation."""
        body: dict[str, str] = msgspec.json.decode(self.load.body)
        return self.request_of(msgspec.json.encode(body | {"conversation_id": conversation_id.decode()}))

    def fail(self, why: str) -> None:
        self.errors[why] = self.errors.get(why, 0) + 1


class _Client(asyncio.Protocol):
    def __init__(self, run: _Run, loop: asyncio.AbstractEventLoop, pauses: Random) -> None:
        self._run = run
        self._pauses = pauses
        self._loop = loop
        self._mark = run.load.mark.encode()
        self._busy = False
        self._tail = self._head = b""
        self._request = run.request
        self._is_opening = run.load.goes_on
        self._tokens = self._status = 0
        self._started = self._opened = self._first = self._last = self._silence = 0.0

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
        now = perf_counter()
        window = self._tail + data
        hits = window.count(self._mark)
        if hits:
            if self._tokens:
                self._silence = max(self._silence, now - self._last)
            else:
                self._first = now
            self._tokens += hits
            self._last = now
        if not self._opened and _OPENING in window:
            self._opened = now
        if self._is_opening:
            self._head += data
        # A mark may be cut in two by a read; what was counted whole must not be counted again.
        cut = window.rfind(self._mark)
        rest = window[cut + len(self._mark) :] if cut >= 0 else window
        self._tail = rest[-_LONGEST_MARK_BYTES:]
        if not self._status:
            match = _STATUS.match(window)
            self._status = int(match[1]) if match else 0
        if window.endswith(b"0\r\n\r\n") or self._status not in (0, 200):
            self._ended(now, window)

    def _next(self) -> None:
        if self._run.left <= 0:
            self._transport.close()
            return
        self._run.left -= 1
        self._busy = True
        self._tail = b""
        self._tokens = self._status = 0
        self._opened = self._silence = 0.0
        self._started = self._first = self._last = perf_counter()
        self._transport.write(self._request)

    def _ended(self, now: float, window: bytes) -> None:
        run = self._run
        self._busy = False
        if self._status != 200:
            code = _CODE.search(window)
            run.fail(f"HTTP {self._status}" + (f" {code[1].decode()}" if code else ""))
            self._transport.close()
            return
        is_opening, self._is_opening = self._is_opening, False
        if is_opening:
            if (begun := _CONVERSATION.search(self._head)) is None:
                run.fail("no conversation to go on with")
                self._transport.close()
                return
            self._request = run.turn_of(begun[1])
        if self._tokens < run.load.tokens:
            told = _ERROR.search(window)
            why = f": {told[1].decode(errors='replace')}" if told else ""
            run.fail(f"only {self._tokens} of {run.load.tokens} tokens{why}")
        elif not is_opening:
            run.answered += 1
            run.tokens += self._tokens
            if self._opened:
                run.opening_ms.append((self._opened - self._started) * 1000)
            run.first_ms.append((self._first - self._started) * 1000)
            run.total_ms.append((now - self._started) * 1000)
            run.longest_silence_ms.append(self._silence * 1000)
        if run.load.pause_ms:
            self._loop.call_later(self._pauses.uniform(0, run.load.pause_ms) / 1000, self._next)
        else:
            self._next()


async def run(load: Load) -> LoadResult:
    """Send all requests. Connection errors are counted like any other."""
    state = _Run(load)
    loop = asyncio.get_running_loop()
    started = perf_counter()
    for number in range(load.clients):
        try:
            await loop.create_connection(partial(_Client, state, loop, Random(number)), state.host, state.port)
        except OSError as error:
            state.fail(str(error))
    if state.open:
        await state.finished.wait()
    return LoadResult(
        answered=state.answered,
        tokens=state.tokens,
        errors=state.errors,
        seconds=perf_counter() - started,
        opening_ms=state.opening_ms,
        first_ms=state.first_ms,
        total_ms=state.total_ms,
        longest_silence_ms=state.longest_silence_ms,
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Load))))
    )
