"""Constraint violations as the domain errors they mean."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from shared.errors import AlreadyExists, DomainError, FieldError


@contextmanager
def violations(refusals: dict[str, DomainError]) -> Iterator[None]:
    """Turn a violation of a named constraint or unique index inside the block into the given error.

    The database decides, not a query before the write: two requests that look first both find nothing. Flush inside.
    """
    try:
        yield
    except IntegrityError as error:
        if refusal := refusals.get(violated_constraint(error) or ""):
            raise refusal from None
        raise


def violated_constraint(error: IntegrityError) -> str | None:
    """The name of the constraint PostgreSQL reports."""
    diagnostics = getattr(error.orig, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def taken(field: str, what: str) -> AlreadyExists:
    """The refusal of a value that must be unique and is taken."""
    message = f"{what} is taken"
    return AlreadyExists(message, errors=(FieldError(field, "taken", message),))
