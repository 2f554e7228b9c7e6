"""Every failure as problem+json: domain errors, Litestar's own, stores that are away, and bugs."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from redis.exceptions import RedisError

from shared.errors import (
    BodyTooLarge,
    DomainError,
    FieldError,
    InvalidRequest,
    Kind,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
    UnsupportedMediaType,
)
from shared.logging import get_logger
from shared.openai_errors import error_body, error_headers, error_status
from shared.problems import PROBLEM_MEDIA_TYPE, headers_of, problem_of

log = get_logger(__name__)

_BY_STATUS: dict[int, type[DomainError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The exception handler of the application."""
    domain = _understood(request, error)
    problem = problem_of(
        domain, instance=request.scope["path"], request_id=request.scope["state"].get("request_id", "")
    )
    headers = headers_of(domain)
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        headers["Allow"] = error.headers["Allow"]
    return Response(
        msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM_MEDIA_TYPE, headers=headers
    )


def answer_openai_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one of the routes that speak OpenAI's protocol."""
    domain = _understood(request, error)
    return Response(
        msgspec.json.encode(error_body(domain)),
        status_code=error_status(domain),
        media_type=MediaType.JSON,
        headers=error_headers(domain),
    )


def _understood(request: Request[Any, Any, Any], error: Exception) -> DomainError:
    domain = as_domain_error(error)
    if domain.kind is Kind.INTERNAL:
        log.error("request_failed", path=request.scope["path"], exc_info=error)
    elif isinstance(domain, StoreUnavailable):
        log.warning("store_unavailable", path=request.scope["path"], reason=type(error).__name__, detail=domain.detail)
    return domain


def as_domain_error(error: Exception) -> DomainError:
    """What an exception means to a caller. Nothing of an unexpected one is shown."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, ValidationException):
        return InvalidRequest("a parameter breaks a rule", errors=_field_errors(error))
    if isinstance(error, HTTPException):
        if found := _BY_STATUS.get(error.status_code):
            return found()
        return MalformedRequest() if error.status_code < 500 else DomainError()
    if isinstance(error, RedisError):
        return StoreUnavailable("sessions and locks cannot be read right now")
    return DomainError()


def _field_errors(error: ValidationException) -> tuple[FieldError, ...]:
    extra = error.extra if isinstance(error.extra, list) else []
    return tuple(
        FieldError(str(item.get("key", "body")), "invalid", str(item.get("message", "not valid")))
        for item in extra
        if isinstance(item, dict)
    )
