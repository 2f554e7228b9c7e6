"""`GET /openapi.json` and the page that renders it.

The page needs nobody else's host: a platform may be behind a firewall, and who reads its documents is its own affair.
"""

import asyncio
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import msgspec
from litestar import MediaType, Response, Router
from litestar.datastructures import State

from control_plane.http.bodies import AnyRequest
from control_plane.http.guards import public
from control_plane.http.handlers import get
from control_plane.http.openapi import document

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cadence API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
<noscript>The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
</body>
</html>
"""

# The validator would be somebody else's.
_START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null,
});
"""

# The one page that shows something, from here alone. Its renderer sets styles by itself and has pictures in them.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_RENDERER = "fastapi-swagger"
_KEPT = {"Cache-Control": "public, max-age=3600"}
_PARTS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "start.js": "text/javascript"}


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


@get([f"/docs/{name}" for name in _PARTS], guards=[public], include_in_schema=False)
async def part(request: AnyRequest) -> Response[bytes]:
    name = request.url.path.rpartition("/")[2]
    return Response(await asyncio.to_thread(_part, name), media_type=_PARTS[name], headers=_KEPT)


@cache
def _part(name: str) -> bytes:
    if name == "start.js":
        return _START
    # By its place: importing the package would import the framework that it is made for.
    return Path(str(distribution(_RENDERER).locate_file(f"fastapi_swagger/resources/{name}"))).read_bytes()


router = Router("/", route_handlers=[openapi_json, docs, part])
