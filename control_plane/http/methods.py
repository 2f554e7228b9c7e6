"""Which methods a path takes: for `Allow` in a 405 and in the answer to OPTIONS.

Litestar names the methods of the first handler only when a path has several, and none in a 405.
"""

from collections.abc import Iterator
from contextlib import suppress

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Method, Receive, Scope, Send
from litestar.utils import normalize_path

_METHODS: tuple[Method, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(app: Litestar, path: str) -> Iterator[str]:
    """Asks the router, which remembers its answers."""
    for method in _METHODS:
        with suppress(HTTPException):
            app.asgi_router.handle_routing(path=normalize_path(path), method=method)
            yield method


class OptionsAnswers:
    """Answers OPTIONS for paths that exist, except a browser's preflight, which is CORS's to answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_plain_options(scope) and (allowed := [*allowed_methods(scope["litestar_app"], scope["path"])]):
            headers = [(b"allow", ", ".join([*allowed, "OPTIONS"]).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._app(scope, receive, send)


def _is_plain_options(scope: Scope) -> bool:
    if scope.get("method") != "OPTIONS":
        return False
    return all(name != b"access-control-request-method" for name, _ in scope["headers"])
