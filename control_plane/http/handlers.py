"""Litestar's route handlers, shown to their guards as they are.

Litestar makes a copy for each guard, in case that one changes it, which takes longer than many a guard. Ours only look.
"""

import inspect
from functools import partial
from typing import Any

from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

__all__ = ["delete", "get", "patch", "post", "put"]


class _Handler(HTTPRouteHandler):
    async def authorize_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        for guard in self.resolve_guards():
            answer = guard(connection, self)
            if inspect.isawaitable(answer):
                await answer


delete = partial(_Handler, http_method=HttpMethod.DELETE)
get = partial(_Handler, http_method=HttpMethod.GET)
patch = partial(_Handler, http_method=HttpMethod.PATCH)
post = partial(_Handler, http_method=HttpMethod.POST)
put = partial(_Handler, http_method=HttpMethod.PUT)
