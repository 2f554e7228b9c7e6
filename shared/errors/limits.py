"""RL: how fast and how much."""

from shared.errors.base import DomainError, Kind


class RateLimited(DomainError):
    """`limit` is how many are allowed in the window and `remaining` how many are left, where the limiter knows."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0001", "Too many requests", True

    def __init__(
        self,
        detail: str | None = None,
        *,
        retry_after_seconds: float | None = None,
        limit: int | None = None,
        remaining: int = 0,
    ) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.limit = limit
        self.remaining = remaining


class TooManyRuns(RateLimited):
    """The organization has as many runs at once as its tier allows."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0003", "Too many runs at once", True


class MessagesSpent(RateLimited):
    """The messages of a day or a month are used up."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0004", "No messages left", True


class TokensSpent(RateLimited):
    """The tokens of a day or a month are used up, or set aside by runs that are going on."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0005", "No tokens left", True


class BudgetSpent(RateLimited):
    """The budget of an organization or an API key is used up, or set aside by runs that are going on."""

    kind, code, title, retryable = Kind.LIMITED, "RL-0006", "The budget is used up", True


class QuotaReached(DomainError):
    """The organization has as many of these as its tier allows. Waiting does not help: one has to go first."""

    kind, code, title = Kind.CONFLICT, "RL-0002", "The quota of the organization's tier is reached"
