"""What every error is: a kind, a stable code, and words for the person who reads it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import ClassVar

import msgspec


class Kind(StrEnum):
    """What sort of trouble it is; HTTP statuses and message dispositions are chosen from this, never from the class."""

    MALFORMED = "malformed"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    GONE = "gone"
    STALE = "stale"
    TOO_LARGE = "too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNSUPPORTED = "unsupported"
    LIMITED = "limited"
    NOT_READY = "not_ready"
    UPSTREAM = "upstream"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one field. `field` is a dotted path (`config.mode_config.max_tool_rounds`)."""

    field: str
    code: str
    message: str


class DomainError(Exception):
    """Base of everything Cadence refuses or fails at on purpose.

    `detail` is written for the person who reads it and is shown to callers: no secret, no internals.
    `retryable` says whether the very same request may succeed later; `retry_after_seconds` says when.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL
    code: ClassVar[str] = "SY-0001"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        self.detail = detail or self.title
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.detail)


def catalogue() -> Iterator[type[DomainError]]:
    """Every error class that has a code of its own, in definition order."""
    seen: set[type[DomainError]] = set()
    stack: list[type[DomainError]] = [DomainError]
    while stack:
        cls = stack.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        if "code" in vars(cls):
            yield cls
        stack.extend(cls.__subclasses__())


def error_for(code: str, detail: str) -> DomainError:
    """The error that was stored or sent as its code and words."""
    kind = next((cls for cls in catalogue() if cls.code == code), DomainError)
    return kind(detail)
