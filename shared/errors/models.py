"""LL: models."""

from shared.errors.base import DomainError, Kind
from shared.errors.requests import InvalidRequest


class ModelError(DomainError):
    """Base for what an upstream model did to us. The detail never repeats what the upstream sent verbatim."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0001", "The model request failed", True


class ModelCredentialRefused(ModelError):
    kind, code, title, retryable = Kind.UPSTREAM, "LL-0002", "The model provider refused the credential", False


class ModelRateLimited(ModelError):
    kind, code, title, retryable = Kind.UPSTREAM, "LL-0003", "The model provider limits the rate", True


class ModelRequestRefused(ModelError):
    """400, 404, 422 from upstream: the request itself (model name, parameters, context length) is not accepted."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0004", "The model provider refused the request", False


class ModelUnavailable(ModelError):
    """5xx, no connection, or the address may not be called."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0005", "The model provider is unavailable", True


class ModelProtocolError(ModelError):
    """The answer is not what the wire format promises: garbage, or a stream that stops in the middle."""

    kind, code, title, retryable = Kind.UPSTREAM, "LL-0006", "The model provider's answer cannot be read", True


class ModelTimedOut(ModelError):
    kind, code, title, retryable = Kind.TIMEOUT, "LL-0007", "The model took too long", True


class ModelAddressRefused(InvalidRequest):
    """`base_url` is not an address the platform may call (SSRF)."""

    kind, code, title = Kind.INVALID, "LL-0008", "This base_url cannot be used"
