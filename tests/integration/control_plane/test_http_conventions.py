"""What every route does alike."""

from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from control_plane.http.guards import public, refreshing, session_only, signed_in
from control_plane.http.openapi import PermissionGuard
from control_plane.wiring import Resources
from shared.errors import catalogue
from tests.integration.control_plane.callers import Caller, World

PUBLIC = {
    "/api/auth/login",
    "/api/auth/oidc/login",
    "/api/auth/oidc/callback",
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/api/health",
    "/api/health/live",
    "/api/health/ready",
    "/openapi.json",
    "/docs",
    "/docs/start.js",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
}


def own_handlers(app: Litestar) -> list[tuple[str, HTTPRouteHandler]]:
    return [
        (route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.fn.__module__.startswith("control_plane.")
    ]


async def test_every_route_says_who_may_call_it(app: Litestar) -> None:
    for path, handler in own_handlers(app):
        if path.startswith("/internal/"):
            continue
        guards = handler.resolve_guards()
        others = (signed_in, session_only, refreshing, public)
        deciding = [guard for guard in guards if isinstance(guard, PermissionGuard) or guard in others]
        assert len(deciding) == 1, f"{path} {handler}"
        # Behind the gateway it is the worker that asks who calls.
        is_open = path in PUBLIC or handler.fn.__module__.startswith("control_plane.gateway.")
        assert (public in guards) is is_open, path


async def test_the_document_describes_every_route_with_its_permission_and_errors(
    app: Litestar, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/openapi.json")
    document = answer.json()

    assert answer.headers["content-type"] == "application/json"
    assert document["openapi"].startswith("3.1")
    assert set(document["x-error-codes"]) == {cls.code for cls in catalogue()}
    # A page that shows the document puts those without a tag under "default", where nobody looks for a chat.
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert [found.get("summary") for found in operations if "operationId" in found and not found.get("tags")] == []
    for path, handler in own_handlers(app):
        if not handler.resolve_include_in_schema():
            # What the gateway passes on is described by the workers that answer it (tests/contract/wire).
            is_passed_on = handler.fn.__module__.startswith("control_plane.gateway.")
            assert path not in document["paths"] or path.startswith("/health") or is_passed_on
            continue
        for method in handler.http_methods:
            operation = document["paths"][path][method.lower()]
            assert operation["summary"]
            is_open = public in handler.resolve_guards()
            needs_session = path.startswith(("/api/auth/", "/api/me/sessions"))
            by_key: list[dict[str, list[str]]] = [] if needs_session else [{"api_key": []}]
            assert operation["security"] == ([] if is_open else [{"session": []}, *by_key])
            assert ("401" in operation["responses"]) is (not is_open or path.endswith(("/auth/login", "/callback")))
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path != "/health/ready":
                    assert list(response["content"]) == ["application/problem+json"]


async def test_bodies_say_that_unknown_fields_are_refused(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()

    for path in document["paths"].values():
        for operation in path.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", "").rsplit("/", 1)[-1]
                if name:
                    assert document["components"]["schemas"][name]["additionalProperties"] is False, name


async def test_no_page_with_scripts_is_served_but_the_one_we_wrote(http: httpx.AsyncClient) -> None:
    for path in ("", "/", "/elements", "/rapidoc", "/redoc", "/swagger", "/oauth2-redirect.html", "/openapi.yaml"):
        assert "<script" not in (await http.get(f"/.openapi{path}")).text, path


async def test_the_docs_render_the_document(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in page.text


UNTAKEABLE: list[tuple[bytes, str, int, str]] = [
    (b"{", "application/json", 400, "VA-0001"),
    (b"", "application/json", 400, "VA-0001"),
    (b"\xff\xfe", "application/json", 400, "VA-0001"),
    (b"[" * 200_000, "application/json", 400, "VA-0001"),
    (b"[]", "application/json", 422, "VA-0002"),
    (b"null", "application/json", 422, "VA-0002"),
    (b"{}", "text/plain", 415, "VA-0004"),
    (b"name=x", "application/x-www-form-urlencoded", 415, "VA-0004"),
    (b'{"display_name": "' + b"x" * 1_100_000 + b'"}', "application/json", 413, "VA-0003"),
    (b'{"display_name": "a\\u0000b"}', "application/json", 422, "VA-0002"),
    (b'{"display_name": 5}', "application/json", 422, "VA-0002"),
]


async def test_bodies_that_cannot_be_taken(root: Caller) -> None:
    for content, content_type, status, code in UNTAKEABLE:
        answer = await root.call("PATCH", "/api/me/profile", content=content, headers={"Content-Type": content_type})

        assert (answer.status_code, answer.json()["code"]) == (status, code), content[:40]
        assert answer.headers["content-type"] == "application/problem+json"


async def test_every_broken_field_is_named_with_its_path(root: Caller) -> None:
    body = {"username": "", "is_sys_admin": "true", "extra": 1}

    answer = await root.post("/api/admin/users", body)

    assert answer.status_code == 422
    assert {(e["field"], e["code"]) for e in answer.json()["errors"]} == {
        ("username", "invalid"),
        ("password", "missing"),
        ("is_sys_admin", "invalid"),
        ("extra", "unknown"),
    }


async def test_a_problem_has_all_its_parts(root: Caller) -> None:
    answer = await root.get("/api/orgs?limit=0", headers={"X-Request-ID": "mine-1"})

    assert answer.json() == {
        "type": "https://cadence.dev/problems/va-0002",
        "title": "The request breaks a rule",
        "status": 422,
        "code": "VA-0002",
        "detail": "a parameter breaks a rule",
        "instance": "/api/orgs",
        "request_id": "mine-1",
        "errors": [{"field": "limit", "code": "invalid", "message": "Expected `int` >= 1"}],
    }


async def test_paging_parameters_out_of_bounds_are_refused(root: Caller) -> None:
    for query in ("limit=201", "limit=-1", "limit=x", "cursor=x", "cursor=%00", "cursor=WzFd", "cursor=IjEi"):
        assert (await root.get(f"/api/admin/users?{query}")).status_code == 422, query


async def test_unknown_paths_and_methods_are_problems_too(http: httpx.AsyncClient) -> None:
    missing = await http.get("/api/nothing/here")
    wrong = await http.put("/api/me/profile")

    assert (missing.status_code, missing.json()["code"]) == (404, "RE-0001")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "SY-0003")
    assert wrong.headers["allow"] == "PATCH"


async def test_options_names_every_method_of_a_path(http: httpx.AsyncClient) -> None:
    answer = await http.options("/api/admin/orgs")

    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, POST, OPTIONS")
    assert (await http.options("/api/nothing")).status_code == 404


async def test_a_request_id_is_kept_when_it_is_harmless(http: httpx.AsyncClient) -> None:
    for given, is_kept in (("abc-123_X.y:z", True), ("a b", False), ("x" * 200, False), ('"}{"level":"error', False)):
        answer = await http.get("/nowhere", headers={"X-Request-ID": given})

        assert (answer.headers["x-request-id"] == given) is is_kept
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_browsers_of_listed_origins_may_call(http: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match"}

    allowed = await http.options("/api/me/profile", headers={"Origin": "https://console.example", **asked})
    refused = await http.options("/api/me/profile", headers={"Origin": "https://evil.example", **asked})

    assert allowed.headers["access-control-allow-origin"] == "https://console.example"
    assert "access-control-allow-origin" not in refused.headers


async def test_a_statement_that_fails_does_not_tell_its_values_to_the_log(resources: Resources) -> None:
    async with resources.engine.connect() as connection:
        with pytest.raises(DBAPIError) as failure:
            await connection.execute(text("SELECT 1 / (length(:secret) - 7)"), {"secret": "hunter2"})

    assert "hunter2" not in str(failure.value)


async def test_a_bug_is_a_problem_without_its_insides(
    world: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.user()

    async def broken(*_: Any) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("control_plane.users.service.UserService.get", broken)
    answer = await caller.get("/api/me")

    assert (answer.status_code, answer.json()["code"]) == (500, "SY-0001")
    assert "hunter2" not in answer.text
