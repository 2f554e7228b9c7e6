"""Every failure as problem+json: domain errors, Litestar's own, stores that are away, and bugs."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from psycopg import DataError
from psycopg import OperationalError as PsycopgOperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from control_plane.http.methods import allowed_methods
from shared.errors import (
    BodyTooLarge,
    DomainError,
    FieldError,
    InvalidRequest,
    Kind,
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PermissionMissing,
    StoreUnavailable,
    UnsupportedMediaType,
)
from shared.logging import get_logger
from shared.problems import PROBLEM_MEDIA_TYPE, headers_of, problem_of

log = get_logger(__name__)

_STORE_AWAY = (
    OperationalError,
    PoolTimeoutError,
    PsycopgOperationalError,
    RedisConnectionError,
    RedisTimeoutError,
)

_BY_STATUS: dict[int, type[DomainError]] = {
    401: NotAuthenticated,
    403: PermissionMissing,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    422: InvalidRequest,
}


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one exception handler of the application."""
    domain = as_domain_error(error)
    if domain.kind is Kind.INTERNAL:
        log.error("request_failed", path=request.url.path, exc_info=error)
    elif isinstance(domain, StoreUnavailable):
        log.warning("store_unavailable", path=request.url.path, reason=type(error).__name__)
    problem = problem_of(
        domain, instance=request.scope["path"], request_id=request.scope["state"].get("request_id", "")
    )
    headers = headers_of(domain)
    if domain.kind is Kind.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.scope["path"]))
    return Response(
        msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM_MEDIA_TYPE, headers=headers
    )


def as_domain_error(error: Exception) -> DomainError:
    """What an exception means to a caller. Nothing of an unexpected one is shown."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, ValidationException):
        if _is_about_path(error):
            # A name or an id that cannot be one of ours is one that does not exist.
            return NotFound()
        return InvalidRequest("a parameter breaks a rule", errors=_field_errors(error))
    if isinstance(error, HTTPException):
        if found := _BY_STATUS.get(error.status_code):
            return found()
        return MalformedRequest() if error.status_code < 500 else DomainError()
    if isinstance(error, _STORE_AWAY) or _is_lost_connection(error):
        return StoreUnavailable()
    if isinstance(error.orig if isinstance(error, DBAPIError) else error, DataError):
        # What JSON can say and PostgreSQL cannot store: the NUL character, in any text of any body or query.
        return InvalidRequest("a value holds characters that cannot be stored")
    return DomainError()


def _is_lost_connection(error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError)


def _is_about_path(error: ValidationException) -> bool:
    extra = error.extra if isinstance(error.extra, list) else []
    return any(isinstance(item, dict) and item.get("source") == "path" for item in extra)


def _field_errors(error: ValidationException) -> tuple[FieldError, ...]:
    extra = error.extra if isinstance(error.extra, list) else []
    return tuple(
        FieldError(str(item.get("key", "body")), "invalid", str(item.get("message", "not valid")))
        for item in extra
        if isinstance(item, dict)
    )
