"""A request id in every answer, taken from the caller when it is harmless. Wraps the whole ASGI application."""

import re

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.ids import new_id
from shared.security.answer_headers import AnswerHeaders, are_too_large, refuse_large_headers

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestIds:
    """Sets `request_id` in `scope["state"]` and the `X-Request-ID` header of the answer.

    Leaves the server's own `send` there as `server_send`, for a stream whose start has gone through every layer and
    whose every chunk need not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = AnswerHeaders()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _ACCEPTABLE.fullmatch(given) else str(new_id()).encode()
        scope["state"]["request_id"] = request_id.decode()
        scope["state"]["server_send"] = send

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._headers.added_to(message["headers"], (b"x-request-id", request_id))
            await send(message)

        if are_too_large(scope["headers"]):
            await refuse_large_headers(send_with_id, request_id.decode())
        else:
            await self._app(scope, receive, send_with_id)
