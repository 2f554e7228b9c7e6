"""VA: what came in."""

from shared.errors.base import DomainError, Kind


class MalformedRequest(DomainError):
    kind, code, title = Kind.MALFORMED, "VA-0001", "Malformed request"


class InvalidRequest(DomainError):
    """Well-formed but breaks a rule; `errors` names every field."""

    kind, code, title = Kind.INVALID, "VA-0002", "The request breaks a rule"


class BodyTooLarge(DomainError):
    kind, code, title = Kind.TOO_LARGE, "VA-0003", "The request body is too large"


class UnsupportedMediaType(DomainError):
    kind, code, title = Kind.UNSUPPORTED, "VA-0004", "Unsupported media type"


class ImmutableField(InvalidRequest):
    kind, code, title = Kind.INVALID, "VA-0005", "The field cannot be changed"


class IdempotencyKeyReused(DomainError):
    """The same Idempotency-Key came with a different request."""

    kind, code, title = Kind.CONFLICT, "VA-0006", "The idempotency key was used for another request"
