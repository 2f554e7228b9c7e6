"""The root of the errors a plugin may define for itself."""

from abc import ABC, abstractmethod
from typing import Any


class CadenceException(ABC, Exception):
    """Subclass it and say what `error_category` (a word for logs and grouping) your errors belong to.

    `status_code` is an HTTP status, `field` names an input when one is to blame, `details` is free JSON-like context.
    """

    def __init__(
        self,
        message: str,
        code: str = "INTERNAL_ERROR",
        status_code: int = 500,
        field: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        # Exceptions are created past the check that keeps abstract classes from being instantiated.
        if missing := getattr(type(self), "__abstractmethods__", None):
            raise TypeError(f"{type(self).__name__} must define {', '.join(sorted(missing))}")
        super().__init__(message)
        self.message = message
        self.code = code
        self.status_code = status_code
        self.field = field
        self.details = details or {}

    @property
    @abstractmethod
    def error_category(self) -> str: ...
