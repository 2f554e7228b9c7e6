"""What the operator sees while the stack starts and runs: a spinner on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


class Display:
    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._pending: dict[str, float] = {}

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Show what is being waited for until the block ends."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status("Starting …") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def begin(self, name: str) -> None:
        self._pending[name] = time.monotonic()
        self._refresh()

    def done(self, name: str, note: str = "") -> None:
        seconds = time.monotonic() - self._pending.pop(name, time.monotonic())
        self.console.print(f"  [green]✓[/] {name:<16} [dim]{seconds:4.1f} s  {note}[/]", highlight=False)
        self._refresh()

    def line(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def plain(self, text: str) -> None:
        """Text that may hold square brackets, as it is."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _refresh(self) -> None:
        if self._status is not None:
            self._status.update("Starting " + (", ".join(self._pending) or "…"))
