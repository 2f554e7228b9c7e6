"""What a plugin prints, as log events: line by line, as many as a log can bear."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

LINES_AT_ONCE = 200
LINES_PER_SECOND = 20.0
BYTES_PER_SECOND = 4 * 1024 * 1024
MAX_LINE_CHARS = 2_000
FINISH_SECONDS = 1.0

Log = Callable[..., Any]
"""Takes an event's name and its fields."""


class LineAllowance:
    """How many lines may still be logged, refilled with time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(LINES_AT_ONCE)
        self._at = monotonic()
        self.dropped = 0
        """Lines that were not logged since somebody last set this to 0."""

    def take(self) -> bool:
        now = self._monotonic()
        self._left = min(self._left + (now - self._at) * LINES_PER_SECOND, LINES_AT_ONCE)
        self._at = now
        if self._left < 1:
            self.dropped += 1
            return False
        self._left -= 1
        return True


class PluginOutput(asyncio.Protocol):
    """Reads the connection that is a host's standard output and error.

    Who prints more than BYTES_PER_SECOND is read no faster: it waits to write, within its own deadline.
    """

    def __init__(self, log: Log, allowance: LineAllowance) -> None:
        self._log = log
        self._allowance = allowance
        self._line = bytearray()
        self._read_bytes = 0
        self._transport: asyncio.ReadTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_lost = asyncio.Event()

    async def finish(self) -> None:
        """Read what is left after its writer has ended, for a moment at most."""
        if self._transport is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                self._transport.resume_reading()
                await self._is_lost.wait()
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not checked at run time: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._read_bytes += len(data)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1.0, self._next_second)
        if self._read_bytes > BYTES_PER_SECOND and self._transport is not None:
            self._transport.pause_reading()
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            self._end_line()
        self._add(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_line()
        self._report_dropped()
        if self._timer is not None:
            self._timer.cancel()
        self._is_lost.set()

    def _add(self, part: bytes) -> None:
        # Four bytes are the most that one character takes.
        self._line += part[: max(MAX_LINE_CHARS * 4 - len(self._line), 0)]

    def _end_line(self) -> None:
        line = bytes(self._line).decode(errors="replace").strip()[:MAX_LINE_CHARS]
        self._line.clear()
        if line and self._allowance.take():
            self._log("plugin_output", line=line)

    def _next_second(self) -> None:
        self._timer = None
        self._report_dropped()
        if self._read_bytes > BYTES_PER_SECOND and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._read_bytes = 0

    def _report_dropped(self) -> None:
        if self._allowance.dropped:
            dropped, self._allowance.dropped = self._allowance.dropped, 0
            self._log("plugin_output_dropped", lines=dropped)
