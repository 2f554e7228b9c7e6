"""Whether a plugin that keeps crashing is tried again yet."""

from collections import deque
from collections.abc import Callable
from typing import Literal

CircuitState = Literal["closed", "open", "half_open"]

WINDOW_SECONDS = 60.0
CRASHES = 3
"""So many crashes within the window open the circuit. Fewer are bad luck, and the next call just gets a fresh host."""
LONGEST_SECONDS = 60.0


class Circuit:
    """Closed: used. Open: not tried before a delay of 1, 2, 4 … 60 seconds is over. Half open: one success closes it,
    one crash opens it for twice as long.

    A success while it is closed changes nothing: a plugin of which every other call crashes is no healthy plugin.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._openings = 0
        self._open_until = 0.0
        self.crash_count = 0
        """In all its life, for whoever watches."""

    @property
    def state(self) -> CircuitState:
        if not self._openings:
            return "closed"
        return "open" if self.retry_seconds > 0 else "half_open"

    @property
    def retry_seconds(self) -> float:
        """How long it stays open; 0 when it may be tried."""
        return max(0.0, self._open_until - self._monotonic()) if self._openings else 0.0

    def crashed(self) -> None:
        now = self._monotonic()
        self.crash_count += 1
        self._crashes.append(now)
        is_repeated = len(self._crashes) == CRASHES and now - self._crashes[0] <= WINDOW_SECONDS
        if self._openings or is_repeated:
            self._open_until = now + min(2.0**self._openings, LONGEST_SECONDS)
            self._openings += 1

    def succeeded(self) -> None:
        if self.state == "half_open":
            self._openings = 0
            self._crashes.clear()
