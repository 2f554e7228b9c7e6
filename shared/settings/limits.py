"""What becomes of requests that cannot be counted, and how many a caller has where no tier says it."""

import msgspec

from shared.environment_variables import Environment
from shared.limits import WhenUncounted


class LimitSettings(msgspec.Struct, frozen=True):
    """`when_uncounted`: what becomes of requests while Redis takes no writes, or nobody knows an organization's limits.

    `requests_per_minute` is for each caller where no organization's tier says it.
    """

    when_uncounted: WhenUncounted = "open"
    requests_per_minute: int = 6_000


def read_limits(env: Environment) -> LimitSettings:
    when = env.choice("LIMITS_WHEN_UNCOUNTED", ("open", "closed"), "open")
    return LimitSettings(
        when_uncounted="closed" if when == "closed" else "open",
        requests_per_minute=env.integer("CALLER_REQUESTS_PER_MINUTE", 6_000, 1, 1_000_000),
    )
