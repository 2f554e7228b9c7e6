"""SY, DB: the system itself and its stores."""

from shared.errors.base import DomainError, Kind


class Draining(DomainError):
    """This process is shutting down and takes no new work."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0002", "Shutting down", True


class MethodNotAllowed(DomainError):
    kind, code, title = Kind.METHOD_NOT_ALLOWED, "SY-0003", "Method not allowed"


class NoLiveWorker(DomainError):
    """The gateway knows no worker that could serve the request."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0004", "No runtime worker is available", True


class WorkerConnectionLost(DomainError):
    """The worker's connection broke before it answered anything and no other worker could be tried."""

    kind, code, title, retryable = Kind.UPSTREAM, "SY-0005", "The runtime worker did not answer", True


class BrokerUnavailable(DomainError):
    """The message broker took no event, or did not confirm it. The outbox keeps it; no caller's request fails."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0006", "The message broker is unavailable", True


class WorkerBusy(DomainError):
    """This worker runs as many turns at once as it can."""

    kind, code, title, retryable = Kind.NOT_READY, "SY-0007", "The runtime worker is at its limit", True


class HeadersTooLarge(DomainError):
    """The request's headers are more than any caller of ours sends; nothing of it was looked at."""

    kind, code, title = Kind.HEADERS_TOO_LARGE, "SY-0008", "The request's headers are too large"


class StoreUnavailable(DomainError):
    """PostgreSQL, MongoDB, Redis or the package store does not answer right now."""

    kind, code, title, retryable = Kind.NOT_READY, "DB-0001", "A data store is unavailable", True
