"""A run told in another protocol than our own: what a client reads instead of the run's events."""

from collections.abc import Mapping
from typing import Any, Protocol


class Dialect(Protocol):
    """Turns the events of one run, in their order, into bytes of `text/event-stream`."""

    def message(self, content: str) -> bytes:
        """A fragment of the visible answer."""
        ...

    def event(self, name: str, data: Mapping[str, Any]) -> bytes:
        """Any other event; empty for one that this protocol has no word for."""
        ...
