"""Errors as OpenAI's clients expect them, for the routes that speak OpenAI's protocol, in both planes."""

import msgspec

from shared.errors import DomainError, Kind
from shared.problems import STATUS_BY_KIND, headers_of

DONE = b"data: [DONE]\n\n"

_TYPES = {
    Kind.UNAUTHENTICATED: "authentication_error",
    Kind.FORBIDDEN: "permission_error",
    Kind.LIMITED: "rate_limit_error",
    Kind.INTERNAL: "server_error",
    Kind.UPSTREAM: "server_error",
    Kind.NOT_READY: "server_error",
    Kind.TIMEOUT: "server_error",
}


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct):
    """`{"error": {message, type, param, code}}`; `code` is that of our catalogue, `param` the first field at fault."""

    error: _Error


def error_body(error: DomainError) -> ErrorBody:
    fields = error.errors
    # A generic detail is of no use to somebody who is shown one sentence only.
    message = "; ".join(f"{field.field}: {field.message}" for field in fields) if fields else error.detail
    kind = _TYPES.get(error.kind, "invalid_request_error")
    return ErrorBody(_Error(message, kind, fields[0].field if fields else None, error.code))


def error_status(error: DomainError) -> int:
    """OpenAI has 400 where we have 422: its clients raise `BadRequestError` for what is wrong with a request."""
    return 400 if error.kind is Kind.INVALID else STATUS_BY_KIND[error.kind]


def error_headers(error: DomainError) -> dict[str, str]:
    """Those of a problem, and whether it makes sense to try again: the clients would retry every 409 and 5xx."""
    return {**headers_of(error), "x-should-retry": "true" if error.retryable else "false"}


def error_in_stream(error: DomainError) -> bytes:
    """The end of a stream that failed after it began."""
    return b"data: " + msgspec.json.encode(error_body(error)) + b"\n\n" + DONE
