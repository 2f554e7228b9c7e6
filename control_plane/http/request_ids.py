"""Request ids, the access log and the headers every answer carries, around the whole application.

It wraps the ASGI application rather than the routes, so that a 404 of the router or a CORS preflight has an id as well.
"""

import re
import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.ids import new_id
from shared.limits.headers import rate_headers
from shared.logging import get_logger
from shared.security.answer_headers import AnswerHeaders, are_too_large, refuse_large_headers

log = get_logger(__name__)

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_QUIET_PREFIXES = ("/health", "/api/health", "/internal/")


class RequestIds:
    """Takes a caller's `X-Request-ID` when it is harmless, else makes one; it is in every answer and every log line.

    Leaves the server's own `send` in `scope["state"]` as `server_send`, for a stream whose start has gone through every
    layer and whose every chunk need not.
    """

    def __init__(self, app: ASGIApp, *, hsts_seconds: int = 0) -> None:
        self._app = app
        self._headers = AnswerHeaders(hsts_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["state"]["request_id"] = request_id
        scope["state"]["server_send"] = send
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = ((b"x-request-id", request_id.encode()), *rate_headers(scope, status))
                message["headers"] = self._headers.added_to(message["headers"], *own)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if are_too_large(scope["headers"]):
                await refuse_large_headers(send_with_id, request_id)
            else:
                await self._app(scope, receive, send_with_id)
        finally:
            quiet = status < 400 and scope["path"].startswith(_QUIET_PREFIXES)
            (log.debug if quiet else log.info)(
                "request",
                method=scope.get("method"),
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _ACCEPTABLE.fullmatch(given) else str(new_id())
