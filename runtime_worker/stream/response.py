"""The response of a streamed run: raw ASGI, because every layer between a token and the socket is paid per token."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

from litestar import Litestar, Request
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.datastructures import Cookie
from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive, Send, TypeEncodersMap

from runtime_worker.stream.run_stream import RunStream
from shared.connections import STUCK_SECONDS, abort
from shared.logging import get_logger

log = get_logger(__name__)

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


@cache
def _is_waited_for(kind: type) -> bool:
    """Whether what `send` has returned is under way. Kept by type: asking each object costs 2 µs for every token."""
    return hasattr(kind, "_asyncio_future_blocking") or issubclass(kind, Coroutine)


class StreamCut(Exception):
    """The response breaks off, so that its client goes on elsewhere instead of taking it for the whole."""


class EventStreamResponse(Response[None]):
    """Sends a run's events until the run ends or the client leaves; `on_disconnect` is called in the latter case."""

    def __init__(
        self, stream: RunStream, *, heartbeat_seconds: float, on_disconnect: Callable[[], None], **kwargs: Any
    ) -> None:
        super().__init__(None, media_type="text/event-stream", headers=HEADERS, **kwargs)
        self._stream = stream
        self._heartbeat_seconds = heartbeat_seconds
        self._on_disconnect = on_disconnect

    def to_asgi_response(
        self,
        app: Litestar | None,
        request: Request[Any, Any, Any],
        *,
        background: BackgroundTask | BackgroundTasks | None = None,
        cookies: Iterable[Cookie] | None = None,
        encoded_headers: Iterable[tuple[bytes, bytes]] | None = None,
        headers: dict[str, str] | None = None,
        is_head_response: bool = False,
        media_type: Any = None,
        status_code: int | None = None,
        type_encoders: "TypeEncodersMap | None" = None,
    ) -> ASGIResponse:
        return _EventStream(
            self._stream,
            request.scope,
            self._heartbeat_seconds,
            self._on_disconnect,
            cookies=cookies,
            headers={**self.headers, **(headers or {})},
            media_type="text/event-stream",
            status_code=self.status_code or status_code,
        )


class _EventStream(ASGIResponse):
    _should_set_content_length = False

    def __init__(
        self,
        stream: RunStream,
        scope: HTTPScope,
        heartbeat_seconds: float,
        on_disconnect: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._stream = stream
        self._scope = scope
        self._server_send: Send = scope["state"]["server_send"]
        self._heartbeat_seconds = heartbeat_seconds
        self._on_disconnect = on_disconnect

    async def send_body(self, send: Send, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._sending: asyncio.Future[None] | None = None
        self._sending_since = 0.0
        self._aborting: asyncio.Task[bool] | None = None
        self._is_gone = False
        watcher = asyncio.create_task(self._watch(receive))
        self._beats = loop.call_later(self._heartbeat_seconds, self._beat)
        self._stream.follow(self._flush, self._drop_if_slow)
        try:
            await self._over
        finally:
            self._stop()
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def _stop(self) -> None:
        self._stream.unfollow()
        self._beats.cancel()
        if self._sending is not None:
            self._sending.cancel()
        if self._aborting is not None:
            self._aborting.cancel()

    def _flush(self) -> None:
        """Give the server what is waiting; the stream has it called.

        Not a task that waits for the next chunk: waking one for every token costs 3 µs of CPU, a tenth of all that a
        token costs. The layers around this application look at the start of a response only; a chunk goes past them.
        """
        if self._over.done() or self._sending is not None:
            return
        try:
            if self._stream.is_cut:
                raise StreamCut
            chunk, is_last = self._stream.take(), self._stream.is_over
            if (chunk or is_last) and not self._is_gone:
                sent = self._server_send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
                # Granian has taken the chunk by now, unless the client has not read for long: then it is a future, and
                # what comes meanwhile waits in the stream. Another server's is a coroutine.
                if _is_waited_for(type(sent)):
                    self._sending = asyncio.ensure_future(sent)
                    self._sending_since = asyncio.get_running_loop().time()
                    self._sending.add_done_callback(lambda sending: self._sent(sending, is_last=is_last))
                    return
        except Exception as error:  # A callback has nobody to tell; the response has.
            self._over.set_exception(error)
        else:
            if is_last:
                self._over.set_result(None)

    def _sent(self, sending: "asyncio.Future[None]", *, is_last: bool) -> None:
        self._sending = None
        error = None if sending.cancelled() else sending.exception()
        if self._over.done():
            return
        if error is not None:
            self._over.set_exception(error)
        elif is_last:
            self._over.set_result(None)
        else:
            # Not what is waiting by now: it may be on its way to nobody but the client yet.
            self._stream.tell_again()

    def _beat(self) -> None:
        """One timer per stream, which runs whether tokens come or not: setting it anew for each would cost more."""
        loop = asyncio.get_running_loop()
        if self._sending is not None and loop.time() - self._sending_since > STUCK_SECONDS:
            self._drop()
            return
        self._stream.heartbeat()
        self._beats = loop.call_later(self._heartbeat_seconds, self._beat)

    def _drop_if_slow(self) -> bool:
        """Called when much is waiting: in a burst, that is nobody's fault."""
        if self._sending is None:
            return False
        self._drop()
        return True

    def _drop(self) -> None:
        """The client is too slow for the run, which goes on. It may come back for the rest (`Last-Event-ID`)."""
        log.warning("slow_client_dropped", request_id=self._scope["state"].get("request_id"))
        # From here on it is a client that left, which is how `_watch` learns of it.
        self._aborting = asyncio.create_task(abort(self._scope))
        self._aborting.add_done_callback(self._dropped)

    def _dropped(self, aborting: "asyncio.Task[bool]") -> None:
        if not self._over.done() and (aborting.cancelled() or not aborting.result()):
            # There is no connection of its own to cut: the response ends where it is.
            self._left()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self._is_gone = True
        self._stream.unfollow()
        self._on_disconnect()
        if not self._over.done():
            self._over.set_result(None)
