"""The OpenAPI document: Litestar's, completed with what it cannot know.

Litestar describes parameters, bodies and successes. Added here, from the same objects that run: the permission of each
route (from its guard), every error it can answer, the ETag headers, and `additionalProperties: false` for bodies that
refuse unknown fields.
"""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

import msgspec
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.routes import HTTPRoute

from control_plane.gateway.chat_api import add_chat_api
from control_plane.http.guards import may, public, refreshing, session_only
from shared.errors import (
    BodyTooLarge,
    Conflict,
    DomainError,
    IdempotencyKeyReused,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
    OrganizationSuspended,
    PermissionMissing,
    RateLimited,
    StaleRevision,
    StoreUnavailable,
    UnsupportedMediaType,
    catalogue,
)
from shared.problems import PROBLEM_MEDIA_TYPE, STATUS_BY_KIND, Problem
from shared.security.permissions import Permission

PermissionGuard = type(may(Permission.PROFILE_READ))
SCHEME = "session"
KEY_SCHEME = "api_key"
_ERRORS = "errors"
_ALSO = "also"
CSV = "text/csv"
_KEEPS_SECRET = "keeps_secret"  # noqa: S105 - the name of an option


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again within 24 hours with the same body, the request is answered as the first time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def documented(*errors: type[DomainError], keeps_secret: bool = False, also: str | None = None) -> dict[str, Any]:
    """`opt=` of a handler: the errors it raises beyond those every route of its shape can answer.

    `keeps_secret` marks an answer that is never stored, not even sealed and for an `Idempotency-Key`.
    `also` is another media type that the answer comes in as text, for whoever asks for it.
    """
    return {_ERRORS: errors, _KEEPS_SECRET: keeps_secret, _ALSO: also}


def honours_idempotency_key(handler: HTTPRouteHandler) -> bool:
    """POSTs of somebody known, except those whose answers may not be kept."""
    if "POST" not in handler.http_methods or handler.opt.get(_KEEPS_SECRET):
        return False
    return not any(guard is public for guard in handler.resolve_guards())


def openapi_config(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Cadence",
        version=version,
        path="/.openapi",
        # With none Litestar serves five pages of its own, each full of scripts from elsewhere.
        render_plugins=[JsonRenderPlugin()],
        use_handler_docstrings=True,
        servers=[Server(url="/")],
        components=Components(
            security_schemes={
                SCHEME: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                KEY_SCHEME: SecurityScheme(type="apiKey", security_scheme_in="header", name="X-API-KEY"),
            }
        ),
    )


def document(app: Litestar) -> dict[str, Any]:
    """The finished document."""
    doc = _with_plain_page_names(app.openapi_schema.to_schema())
    schemas: dict[str, Any] = doc["components"].setdefault("schemas", {})
    problem_ref = _add_problem(schemas)
    for path, method, handler in _operations(app):
        operation = doc["paths"].get(path, {}).get(method)
        if operation is not None:
            _complete(operation, path, method, handler, problem_ref)
    _close_bodies(app, schemas)
    add_chat_api(doc)
    doc["x-error-codes"] = {
        cls.code: {"title": cls.title, "status": STATUS_BY_KIND[cls.kind], "retryable": cls.retryable}
        for cls in catalogue()
    }
    return doc


def _with_plain_page_names(doc: dict[str, Any]) -> dict[str, Any]:
    """`Page[ThingView]` is called `ThingPage`; Litestar builds a name from the module path of the type argument."""
    text = msgspec.json.encode(doc).decode()
    plain: dict[str, Any] = msgspec.json.decode(re.sub(r"Page_[\w.]*?(\w+?)(?:View)?_(?=\")", r"\1Page", text))
    return plain


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    for method in handler.http_methods:
                        yield route.path_format, method.lower(), handler


def _complete(operation: dict[str, Any], path: str, method: str, handler: HTTPRouteHandler, problem: str) -> None:
    guards = handler.resolve_guards()
    if honours_idempotency_key(handler):
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    responses: dict[str, Any] = operation.setdefault("responses", {})
    if (also := handler.opt.get(_ALSO)) and "200" in responses:
        responses["200"]["content"][also] = {"schema": {"type": "string"}}
    # Litestar's own idea of an error body is not what this application answers.
    for declared in [s for s in responses if s[0] in "45" and int(s) not in (handler.responses or {})]:
        del responses[declared]
    by_status: dict[int, list[type[DomainError]]] = {}
    for error in _errors_of(operation, path, method, handler):
        by_status.setdefault(STATUS_BY_KIND[error.kind], []).append(error)
    for status, errors in sorted(by_status.items()):
        if str(status) not in responses:
            responses[str(status)] = _problem_response(status, errors, problem)
    if public in guards:
        operation["security"] = []
    else:
        operation["security"] = (
            [{SCHEME: []}] if {session_only, refreshing} & set(guards) else [{SCHEME: []}, {KEY_SCHEME: []}]
        )
        permissions = [guard.permission.value for guard in guards if isinstance(guard, PermissionGuard)]
        operation["x-permission"] = permissions[0] if permissions else "session"


def _errors_of(
    operation: dict[str, Any], path: str, method: str, handler: HTTPRouteHandler
) -> Iterator[type[DomainError]]:
    guards = handler.resolve_guards()
    parameters = operation.get("parameters", [])
    if public not in guards:
        yield NotAuthenticated
        yield RateLimited
    if any(isinstance(guard, PermissionGuard) for guard in guards):
        yield PermissionMissing
        if "{org_id}" in path:
            yield OrganizationSuspended
    if "{" in path:
        yield NotFound
    if any(p["in"] == "query" for p in parameters):
        yield InvalidRequest
    if any(p["name"] == "If-Match" for p in parameters):
        yield StaleRevision
    if "requestBody" in operation:
        yield from (MalformedRequest, BodyTooLarge, UnsupportedMediaType, InvalidRequest)
    if honours_idempotency_key(handler):
        yield from (InvalidRequest, IdempotencyKeyReused, Conflict)
    yield StoreUnavailable
    yield from cast("tuple[type[DomainError], ...]", handler.opt.get(_ERRORS, ()))


def _problem_response(status: int, errors: list[type[DomainError]], problem: str) -> dict[str, Any]:
    codes = dict.fromkeys(f"`{error.code}` {error.title}" for error in errors)
    response: dict[str, Any] = {
        "description": "; ".join(codes) or HTTPStatus(status).phrase,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": problem}}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return response


def _add_problem(schemas: dict[str, Any]) -> str:
    _, components = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    schemas.update(components)
    return "#/components/schemas/Problem"


def _close_bodies(app: Litestar, schemas: dict[str, Any]) -> None:
    """Say of every struct that refuses unknown fields that it does."""
    for kind in _structs(app):
        schema = schemas.get(kind.__name__)
        if schema is not None and kind.__struct_config__.forbid_unknown_fields:
            schema["additionalProperties"] = False


def _structs(app: Litestar) -> Iterator[type[msgspec.Struct]]:
    seen: set[type] = set()
    for _, _, handler in _operations(app):
        if handler.parsed_data_field is not None:
            yield from _nested(handler.parsed_data_field.annotation, seen)


def _nested(annotation: Any, seen: set[type]) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        if annotation in seen:
            return
        seen.add(annotation)
        yield annotation
        for field in msgspec.structs.fields(annotation):
            yield from _nested(field.type, seen)
    for part in getattr(annotation, "__args__", ()):
        yield from _nested(part, seen)
