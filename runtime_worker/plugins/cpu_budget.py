"""CPU time of a long-lived process, allowed by the call: a lifetime limit would end the busiest plugins first."""

BURST_CALLS = 4
IDLE_SHARE = 0.05
"""Of one core, for what goes on between calls: timers, connection pools."""


class CpuBudget:
    """A bucket of CPU seconds. Each call adds its allowance, whatever is used is taken out; who is below zero is over.

    It holds no more than a few calls' worth, so that a thousand quick calls do not pay for an hour of something else.
    """

    def __init__(self, seconds_per_call: float) -> None:
        self._per_call = seconds_per_call
        self._most = seconds_per_call * BURST_CALLS
        # The start is a call, too: imports and `initialize`.
        self._left = seconds_per_call
        self._used = 0.0

    @property
    def is_over(self) -> bool:
        return self._left < 0

    def call_started(self) -> None:
        self._left = min(self._left + self._per_call, self._most)

    def measured(self, used_seconds: float, elapsed_seconds: float) -> None:
        """`used_seconds` is the process's total so far, `elapsed_seconds` the time since the last measurement."""
        self._left = min(self._left + IDLE_SHARE * elapsed_seconds, self._most) - (used_seconds - self._used)
        self._used = used_seconds
