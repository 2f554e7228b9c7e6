"""One question to a model over HTTP/1.1 and its answer, on a connection that aiohttp lends.

aiohttp finds the address, connects, encrypts and keeps connections. What is said over one goes past its client: from
the socket to whoever waits, a token passes a buffer, a future and a task there, and each request is put together anew.
"""

import asyncio
from collections.abc import Mapping
from contextvars import copy_context
from typing import Protocol

import httptools
from aiohttp import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from shared.errors import ModelProtocolError

END_SECONDS = 0.05
"""How long the end of an answer may come behind its last event; it mostly comes with it."""
ERROR_BODY_SECONDS = 2.0
"""How long a provider may take to say why it refuses."""
MAX_ERROR_BODY_BYTES = 16 * 1024
MAX_HEAD_BYTES = 64 * 1024
_OK = 200


class NoAnswer(Exception):
    """The connection ended, or something else than HTTP came, before an answer had begun."""


class Reader(Protocol):
    """Who reads what a model says, while it says it."""

    def begin(self) -> None:
        """The question is taken: what follows is the answer."""

    def read(self, piece: bytes) -> bool:
        """The next piece; True when it says that it is the last one. What it raises ends the exchange."""

    def end(self) -> None:
        """The body has ended without a piece that said so. What it raises ends the exchange."""


class Address:
    """Where questions are posted, with the headers that each of them has. Made in the running loop."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Raises ValueError for a header that cannot be sent."""
        # Events are read as they come, so they must not be compressed.
        said = {**headers, "Accept-Encoding": "identity"}
        self.request = ClientRequest("POST", URL(url), headers=said)
        """For aiohttp, which finds a connection for it and does not send it."""
        lines = [f"POST {self.request.url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.request.headers.items() if name != "Content-Length"]
        if any(sign in line for line in lines for sign in "\r\n\0"):
            raise ValueError("a header holds a line break")
        self._head = "\r\n".join(lines).encode()

    def message(self, body: bytes) -> bytes:
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body)


class Exchange(asyncio.Protocol):
    """Has its connection until the answer has ended, then gives it back, or closes it where it cannot be used again.

    `status` is 0 until an answer begins. Of one that is not 200, `body` has the beginning.
    """

    def __init__(self, connection: Connection, reader: Reader) -> None:
        """Raises NoAnswer when the connection has ended already."""
        handler = connection.protocol
        if handler is None or handler.transport is None or handler.should_close:
            connection.close()
            raise NoAnswer
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._connection = connection
        self._handler = handler
        self._transport = handler.transport
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        # As lenient as aiohttp: there are servers that need it.
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
        self._context = copy_context()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_whole = self._is_over = False
        self._can_be_used_again = False
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def ask(self, message: bytes) -> None:
        """Returns when the answer has ended, or is refused. Raises NoAnswer, ModelProtocolError and what the reader
        raises. Cancelling it hangs up."""
        self._transport.set_protocol(self)
        self._transport.write(message)
        try:
            await self._done
        except BaseException:
            # What stops a provider from writing, and billing, what nobody will read.
            self._hang_up()
            raise
        if self.status != _OK:
            self._hang_up()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        if not self.status:
            self._head_bytes += len(data)
        try:
            # A connection outlives its questions: what the reader does belongs to who asked this one.
            self._context.run(self._parser.feed_data, data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break_off("the model's answer is not HTTP any more")
        if not self.status and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(ModelProtocolError("the model's answer has too many headers"))
        if self._is_whole:
            self._give_back()
        elif self._done.done() and self._timer is None:
            self._timer = self._loop.call_later(END_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        # Whoever closes aiohttp's connections waits until it has heard of each.
        self._handler.connection_lost(exc)
        if self._is_over:
            return
        if self.status and exc is None and not self._has_a_length():
            self._context.run(self._end)
        else:
            self._break_off("the connection to the model broke in the middle of its answer")
        self._hang_up()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        if self._is_whole:
            # Whoever comes next must not take it for their answer.
            self._can_be_used_again = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._is_whole:
            return
        status = self._parser.get_status_code()
        if status < _OK:
            # It is told that an answer will come.
            self.headers.clear()
            return
        self.status = status
        if status != _OK:
            self._timer = self._loop.call_later(ERROR_BODY_SECONDS, self._settle)
        elif self.headers.get(b"content-encoding", b"identity") != b"identity":
            self._fail(ModelProtocolError("the model's answer is compressed, although nobody asked for that"))
        else:
            self._reader.begin()

    def on_body(self, body: bytes) -> None:
        if self._done.done():
            return
        if self.status != _OK:
            self.body += body[: MAX_ERROR_BODY_BYTES - len(self.body)]
            if len(self.body) == MAX_ERROR_BODY_BYTES:
                self._settle()
            return
        try:
            if self._reader.read(body):
                self._settle()
        except Exception as error:  # Whatever it is, who asks is told.
            self._fail(error)

    def on_message_complete(self) -> None:
        if self.status and not self._is_whole:
            self._is_whole = True
            self._can_be_used_again = self._parser.should_keep_alive()
            self._end()

    # --- endings ---

    def _has_a_length(self) -> bool:
        return b"content-length" in self.headers or b"transfer-encoding" in self.headers

    def _end(self) -> None:
        if self._done.done():
            return
        try:
            if self.status == _OK:
                self._reader.end()
        except Exception as error:  # As above.
            self._fail(error)
        else:
            self._settle()

    def _break_off(self, why: str) -> None:
        if not self.status:
            self._fail(NoAnswer())
        elif self.status == _OK:
            self._fail(ModelProtocolError(why))
        else:
            # That it refuses is known, if not why.
            self._settle()

    def _settle(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)

    def _give_back(self) -> None:
        if self._can_be_used_again:
            self._part()
            self._transport.set_protocol(self._handler)
            self._connection.release()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        """Does nothing where the connection was given back before."""
        self._part()
        self._connection.close()

    def _part(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        # It holds this exchange as the exchange holds it: neither would go before the collector comes.
        del self._parser
