"""RFC 9457 problem documents: how a DomainError looks on the wire."""

import msgspec

from shared.errors import DomainError, FieldError, Kind, RateLimited

STATUS_BY_KIND: dict[Kind, int] = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.METHOD_NOT_ALLOWED: 405,
    Kind.CONFLICT: 409,
    Kind.GONE: 410,
    Kind.STALE: 412,
    Kind.TOO_LARGE: 413,
    Kind.UNSUPPORTED: 415,
    Kind.INVALID: 422,
    Kind.LIMITED: 429,
    Kind.HEADERS_TOO_LARGE: 431,
    Kind.INTERNAL: 500,
    Kind.UPSTREAM: 502,
    Kind.NOT_READY: 503,
    Kind.TIMEOUT: 504,
}

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://cadence.dev/problems/"
DEFAULT_RETRY_AFTER_SECONDS = 2


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str = ""
    request_id: str = ""
    errors: tuple[FieldError, ...] = ()


def problem_of(error: DomainError, *, instance: str = "", request_id: str = "") -> Problem:
    """The problem document of an error. `type` is a stable URL ending in the code in lower case."""
    return Problem(
        type=TYPE_BASE + error.code.lower(),
        title=error.title,
        status=STATUS_BY_KIND[error.kind],
        code=error.code,
        detail=error.detail,
        instance=instance,
        request_id=request_id,
        errors=error.errors,
    )


def headers_of(error: DomainError) -> dict[str, str]:
    """Extra headers of the answer: `Retry-After` on 429 and 503, `RateLimit-*` on 429, `WWW-Authenticate` on 401."""
    headers: dict[str, str] = {}
    if error.kind in (Kind.LIMITED, Kind.NOT_READY):
        seconds = error.retry_after_seconds or DEFAULT_RETRY_AFTER_SECONDS
        headers["Retry-After"] = str(max(1, round(seconds)))
    if isinstance(error, RateLimited) and error.limit is not None:
        headers["RateLimit-Limit"] = str(error.limit)
        headers["RateLimit-Remaining"] = str(error.remaining)
        headers["RateLimit-Reset"] = headers["Retry-After"]
    if error.kind is Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
