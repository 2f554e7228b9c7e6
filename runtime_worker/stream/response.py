"""The response of a streamed run: raw ASGI, because every layer between a token and the socket is paid per token."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from litestar import Litestar, Request
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.datastructures import Cookie
from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send, TypeEncodersMap

from runtime_worker.stream.run_stream import RunStream

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}


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
            request.scope["state"]["server_send"],
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
        server_send: Send,
        heartbeat_seconds: float,
        on_disconnect: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._stream = stream
        self._server_send = server_send
        self._heartbeat_seconds = heartbeat_seconds
        self._on_disconnect = on_disconnect

    async def send_body(self, send: Send, receive: Receive) -> None:
        # The layers around this application look at the start of a response only; a chunk goes past them.
        stream, send = self._stream, self._server_send
        watcher = asyncio.create_task(self._watch(receive))
        self._has_sent = self._is_gone = False
        self._beats = asyncio.get_running_loop().call_later(self._heartbeat_seconds, self._beat)
        try:
            while chunk := await stream.next_chunk():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._has_sent = True
            if not self._is_gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._beats.cancel()
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    def _beat(self) -> None:
        """One timer per stream, not per token: it only notes whether anything went out since it last looked."""
        if not self._has_sent:
            self._stream.heartbeat()
        self._has_sent = False
        self._beats = asyncio.get_running_loop().call_later(self._heartbeat_seconds, self._beat)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_gone = True
        self._stream.unfollow()
        self._on_disconnect()
