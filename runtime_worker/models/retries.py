"""When a failed call is made again: only before its first byte, and only while its deadline leaves room for it."""

import asyncio
import random

from shared.errors import ModelError

FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 4.0
MAX_RETRY_AFTER_SECONDS = 15.0
"""A provider that asks for more is not waited for: somebody is looking at an empty chat meanwhile."""


class Retry(Exception):
    """An attempt failed before its first byte, in a way that another one may not."""

    def __init__(self, error: ModelError, wait_seconds: float | None = None) -> None:
        self.error = error
        self.wait_seconds = wait_seconds


def wait_seconds(failure: Retry, attempt: int) -> float:
    """What the provider asked for, or else 0.25, 0.5, 1 … at most 4 seconds, each ± 25 % so that many clients do not
    come back at the same moment. `attempt` counts from 0."""
    if failure.wait_seconds is not None:
        return failure.wait_seconds
    seconds = min(FIRST_BACKOFF_SECONDS * 2.0**attempt, MAX_BACKOFF_SECONDS)
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreading load, no secret depends on it


def fits(seconds: float, deadline: asyncio.Timeout) -> bool:
    """Whether a wait of so many seconds leaves anything of the deadline."""
    when = deadline.when()
    left = when - asyncio.get_running_loop().time() if when is not None else float("inf")
    return seconds <= MAX_RETRY_AFTER_SECONDS and seconds < left
