"""The OpenAPI document: Litestar's, completed with bodies, permissions and every error a route can answer."""

from collections.abc import Iterator
from typing import Any, cast

import msgspec
from litestar import Litestar, Response, Router
from litestar.datastructures import State
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.routes import HTTPRoute

from runtime_worker.http.auth import PermissionGuard, public
from runtime_worker.http.callers import AnyRequest
from runtime_worker.http.chat_schemas import ChatCompletionBody
from runtime_worker.http.handlers import get
from runtime_worker.http.visits import VisitGuard
from shared.errors import (
    BodyTooLarge,
    DomainError,
    InvalidRequest,
    MalformedRequest,
    NotAuthenticated,
    NotFound,
    OrganizationSuspended,
    PermissionMissing,
    RateLimited,
    StoreUnavailable,
    UnsupportedMediaType,
    catalogue,
)
from shared.openai_errors import ErrorBody, error_status
from shared.problems import PROBLEM_MEDIA_TYPE, STATUS_BY_KIND, Problem

SCHEME = "session"
KEY_SCHEME = "api_key"
_REF = "#/components/schemas/{name}"


_EVENT = {
    "description": "Each of the events, one after the other.",
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["data"],
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Sent again within 24 hours with the same body, the request gets the run of the first time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def documented(
    *errors: type[DomainError],
    body: type[msgspec.Struct] | None = None,
    streams: bool = False,
    is_repeatable: bool = False,
    speaks_openai: bool = False,
) -> dict[str, Any]:
    """`opt=` of a handler: the body it reads, whether it streams, whether it knows an `Idempotency-Key`, whether it has
    OpenAI's errors instead of problems, and what it raises beyond what its shape tells."""
    return {
        "errors": errors,
        "body": body,
        "streams": streams,
        "is_repeatable": is_repeatable,
        "speaks_openai": speaks_openai,
    }


def openapi_config(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Cadence runtime worker",
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
    doc = app.openapi_schema.to_schema()
    schemas: dict[str, Any] = doc["components"].setdefault("schemas", {})
    _define(schemas, Problem)
    _define(schemas, ErrorBody)
    for path, method, handler in _operations(app):
        operation = doc["paths"][path][method]
        if body := handler.opt.get("body"):
            _define(schemas, body)
            reference = {"$ref": _REF.format(name=body.__name__)}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        if handler.opt.get("is_repeatable"):
            operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
        if handler.opt.get("streams"):
            operation["responses"]["200"]["content"] = {"text/event-stream": {"schema": _EVENT}}
        elif body is ChatCompletionBody:
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": _EVENT}
        _describe_errors(operation, path, handler)
    doc["x-error-codes"] = {
        cls.code: {"title": cls.title, "status": STATUS_BY_KIND[cls.kind], "retryable": cls.retryable}
        for cls in catalogue()
    }
    return doc


@get("/openapi.json", guards=[public], include_in_schema=False)
async def openapi_json(request: AnyRequest, state: State) -> Response[bytes]:
    """Made once: routes do not change while the process runs."""
    if "openapi_document" not in state:
        state["openapi_document"] = msgspec.json.encode(document(request.app))
    body: bytes = state["openapi_document"]
    return Response(body, media_type="application/json")


router = Router("/", route_handlers=[openapi_json])


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    for method in handler.http_methods:
                        yield route.path_format, method.lower(), handler


def _describe_errors(operation: dict[str, Any], path: str, handler: HTTPRouteHandler) -> None:
    responses: dict[str, Any] = operation["responses"]
    # Litestar's own idea of an error body is not what this application answers.
    for declared in [status for status in responses if status[0] in "45"]:
        del responses[declared]
    by_status: dict[int, list[type[DomainError]]] = {}
    speaks_openai = handler.opt.get("speaks_openai")
    media_type, shape = ("application/json", "ErrorBody") if speaks_openai else (PROBLEM_MEDIA_TYPE, "Problem")
    for error in _errors_of(operation, path, handler):
        status = error_status(error()) if speaks_openai else STATUS_BY_KIND[error.kind]
        by_status.setdefault(status, []).append(error)
    for status, errors in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "; ".join(dict.fromkeys(f"`{error.code}` {error.title}" for error in errors)),
            "content": {media_type: {"schema": {"$ref": _REF.format(name=shape)}}},
        }
    if speaks_openai:
        # A path that cannot be one is no route at all, so nothing of it speaks any other protocol.
        responses["404"]["content"][PROBLEM_MEDIA_TYPE] = {"schema": {"$ref": _REF.format(name="Problem")}}
    permission = _permission(handler)
    operation["security"] = [{SCHEME: []}, {KEY_SCHEME: []}] if permission else []
    if any(isinstance(guard, VisitGuard) for guard in handler.resolve_guards()):
        # A public central point answers without either.
        operation["security"].append({})
    operation["x-permission"] = permission


def _permission(handler: HTTPRouteHandler) -> str | None:
    guards = (g for g in handler.resolve_guards() if isinstance(g, (PermissionGuard, VisitGuard)))
    return next((guard.permission.value for guard in guards), None)


def _errors_of(operation: dict[str, Any], path: str, handler: HTTPRouteHandler) -> Iterator[type[DomainError]]:
    if _permission(handler):
        yield from (NotAuthenticated, PermissionMissing, OrganizationSuspended, RateLimited, StoreUnavailable)
    if "{" in path:
        yield NotFound
    if any(parameter["in"] == "query" for parameter in operation.get("parameters", [])):
        yield InvalidRequest
    if "requestBody" in operation:
        yield from (MalformedRequest, BodyTooLarge, UnsupportedMediaType, InvalidRequest)
    yield from cast("tuple[type[DomainError], ...]", handler.opt.get("errors", ()))


def _define(schemas: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    for name, schema in components.items():
        schemas.setdefault(name, schema)
