"""What every answer says to browsers, and how much a request may say of itself."""

import re

import httpx
import msgspec
import pytest

from control_plane.http.request_ids import RequestIds
from control_plane.wiring import Resources
from shared.security.answer_headers import MAX_HEADER_BYTES, AnswerHeaders
from tests.integration.control_plane.callers import World

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


async def test_every_answer_is_kept_from_frames_caches_and_guesses(world: World, http: httpx.AsyncClient) -> None:
    tenant = await world.tenant()
    answers = [
        await tenant.admin.get(tenant.path),
        await tenant.admin.post("/api/me/api-keys", {"name": "k", "scopes": ["cadence:org:read"]}),
        await http.get("/api/me"),
        await http.get("/nowhere"),
        await http.get("/docs"),
        await http.request("OPTIONS", "/api/me"),
    ]

    for answer in answers:
        found = {name: answer.headers.get_list(name) for name in ALWAYS}
        assert found == {name: [value] for name, value in ALWAYS.items()}, answer.request.url
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "strict-transport-security" not in answer.headers
    assert "default-src 'none'" in answers[0].headers["content-security-policy"]


async def test_headers_that_no_caller_needs_are_refused_before_anything_else(http: httpx.AsyncClient) -> None:
    large = await http.get("/api/me", headers={"cookie": "x" * MAX_HEADER_BYTES})
    usual = await http.get("/api/me", headers={"cookie": "x" * (MAX_HEADER_BYTES // 2)})

    assert (large.status_code, large.json()["code"]) == (431, "SY-0008")
    assert large.headers["content-type"] == "application/problem+json"
    assert large.json()["request_id"] == large.headers["x-request-id"]
    assert usual.status_code == 401


async def test_the_page_of_the_api_documents_needs_nobody_elses_host(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)

    assert "//" not in page.text
    assert {"/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js", "/openapi.json"} == set(needed)
    sources = [part.split()[1:] for part in page.headers["content-security-policy"].split(";")]
    assert {source for named in sources for source in named} == {"'none'", "'self'", "'unsafe-inline'", "data:"}
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for path in needed:
        part = await http.get(path)
        assert (part.status_code, part.headers["x-content-type-options"]) == (200, "nosniff"), path
    assert (await http.get("/docs/swagger-ui.css")).headers["content-type"].startswith("text/css")
    assert b"SwaggerUIBundle" in (await http.get("/docs/swagger-ui-bundle.js")).content
    start = (await http.get("/docs/start.js")).text
    assert ("//" in start, "validatorUrl: null" in start) == (False, True)
    assert (await http.get("/docs/..%2f..%2fmain.py")).status_code == 404


def test_transport_security_is_promised_where_the_operator_does() -> None:
    promised = dict(AnswerHeaders(3600).added_to([(b"Cache-Control", b"private")], (b"x-request-id", b"1")))

    assert promised[b"strict-transport-security"] == b"max-age=3600; includeSubDomains"
    assert (promised[b"Cache-Control"], b"cache-control" in promised) == (b"private", False)


@pytest.mark.parametrize("seconds", [0, 3600])
async def test_the_setting_reaches_the_answers(resources: Resources, seconds: int) -> None:
    settings = msgspec.structs.replace(resources.settings, hsts_seconds=seconds)
    sent: list[dict[str, object]] = []

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]

    async def keep(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "state": {}, "headers": [], "path": "/", "method": "GET"}
    await RequestIds(app, hsts_seconds=settings.hsts_seconds)(scope, None, keep)  # type: ignore[arg-type]
    (started,) = sent
    names = [name for name, _ in started["headers"]]  # type: ignore[attr-defined]
    assert (b"strict-transport-security" in names) is bool(seconds)
