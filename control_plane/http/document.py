"""`GET /openapi.json` and the page that renders it."""

import msgspec
from litestar import MediaType, Response, Router, get
from litestar.datastructures import State

from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import public
from control_plane.http.openapi import document

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cadence API</title>
</head>
<body>
<script id="api-reference" data-url="/openapi.json"></script>
<script src="https://cdn.jsdelivr.net/npm/@scalar/api-reference"></script>
<noscript>The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body>
</html>
"""

# The one page that shows something. Its renderer comes from where the page says, and talks to us alone.
_POLICY = (
    "default-src 'none'; script-src https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "font-src data: https://cdn.jsdelivr.net https://fonts.scalar.com; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@get("/openapi.json", guards=[public], include_in_schema=False)
async def openapi_json(request: AnyRequest, state: State) -> Response[bytes]:
    """Made once: routes do not change while the process runs."""
    if "openapi_document" not in state:
        state["openapi_document"] = msgspec.json.encode(document(request.app))
    body: bytes = state["openapi_document"]
    return Response(body, media_type=MediaType.JSON)


@get("/docs", guards=[public], include_in_schema=False, media_type=MediaType.HTML)
async def docs() -> Response[str]:
    return Response(_PAGE, media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


router = Router("/", route_handlers=[openapi_json, docs])
