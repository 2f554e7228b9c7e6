"""RE: resources."""

from shared.errors.base import DomainError, Kind


class NotFound(DomainError):
    """Unknown, or somebody else's: a caller cannot tell which."""

    kind, code, title = Kind.NOT_FOUND, "RE-0001", "Not found"


class AlreadyExists(DomainError):
    kind, code, title = Kind.CONFLICT, "RE-0002", "Already exists"


class InUse(DomainError):
    """Something else still refers to it."""

    kind, code, title = Kind.CONFLICT, "RE-0003", "Still in use"


class StaleRevision(DomainError):
    """`If-Match` names a revision that is no longer the current one."""

    kind, code, title = Kind.STALE, "RE-0004", "Changed by somebody else in the meantime"


class Conflict(DomainError):
    """The state of the resource does not allow it."""

    kind, code, title = Kind.CONFLICT, "RE-0005", "The current state does not allow this"


class Gone(DomainError):
    kind, code, title = Kind.GONE, "RE-0006", "Deactivated"


class LastAdmin(DomainError):
    """An organization keeps at least one admin."""

    kind, code, title = Kind.CONFLICT, "RE-0007", "An organization keeps at least one admin"
