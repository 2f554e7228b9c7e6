"""A server that answers with exactly the bytes it was told to, whether they are HTTP or not."""

import asyncio
import re
import ssl
from collections.abc import Sequence
from typing import NamedTuple, Self

_LENGTH = re.compile(rb"content-length: (\d+)", re.I)


class Bytes(NamedTuple):
    """What one request is answered with; `later` comes a moment behind it, when that has been read."""

    data: bytes
    later: bytes = b""
    hangs_up: bool = False


class RawServer:
    """Answers its requests with `answers`, one after the other. `connections` has the number of each one's."""

    def __init__(self, *answers: Bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answers = list(answers)
        self._tls = tls
        self._writers: list[asyncio.StreamWriter] = []
        self.connections: list[int] = []
        self.requests: list[bytes] = []
        self.hung_up = asyncio.Event()
        self._answered = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def until_all_is_read_of(self, count: int) -> None:
        """Until all that so many requests are answered with has been said, and has been read by who listens."""
        async with asyncio.timeout(5):
            while self._answered < count:
                await asyncio.sleep(0.005)
        # Sockets are looked at before timers: what was written before has been read by then.
        await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        number = len(self._writers)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
                self.connections.append(number)
                answer = self._answers.pop(0)
                for data in (answer.data, answer.later):
                    writer.write(data)
                    await writer.drain()
                    await asyncio.sleep(0.02)
                if answer.hangs_up:
                    writer.close()
                self._answered += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.hung_up.set()
            writer.close()


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def answer(*pieces: bytes, status: bytes = b"200 OK", headers: Sequence[bytes] = ()) -> bytes:
    """An answer as it should be."""
    lines = [b"HTTP/1.1 " + status, b"transfer-encoding: chunked", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + chunked(*pieces)
