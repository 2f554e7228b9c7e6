"""Where the lines of the log go to standard error: many with one write, which costs more than all else of a line."""

import asyncio
import atexit
import os
import sys
import threading
from contextlib import suppress

HOLD_SECONDS = 0.03
"""The longest that a line waits for others, unless the event loop is held up itself."""

MOST = 64
"""As many are written without waiting for more."""


class LogLines:
    """Lines in the order in which they were given, each of them whole. Threads may share one.

    Lines that wait are lost with a process that is killed, and with no other that has called `write_at_exit`.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._due_in: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()

    def add(self, line: str, *, at_once: bool = False) -> None:
        """Write it soon, or `at_once` with all that were given before; at once as well where no event loop runs that
        would do it later.
        """
        with self._lock:
            self._waiting.append(line)
            if at_once or len(self._waiting) >= MOST or not self._is_due_soon():
                self.write()

    def write(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            lines, self._waiting = self._waiting, []
            # A log that nobody takes any more is no reason to fail.
            with suppress(OSError, ValueError):
                sys.stderr.write("\n".join(lines) + "\n")
                sys.stderr.flush()

    def write_at_exit(self) -> None:
        """Call it once in a process. Those that it forks have none of what waits here."""
        atexit.register(self.write)
        self._write_at_exit_of_child()
        release = self._lock.release
        os.register_at_fork(before=self._hold_still, after_in_parent=release, after_in_child=release)

    def _write_at_exit_of_child(self) -> None:
        """What multiprocessing has started, as Granian does, ends without Python's own exit."""
        # Not at the top: it takes 5 ms to import, and what could log does not always.
        from multiprocessing.util import Finalize, register_after_fork

        Finalize(None, self.write, exitpriority=0)
        register_after_fork(self, LogLines._write_at_exit_of_child)

    def _is_due_soon(self) -> bool:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        # One that has stopped meanwhile does nothing any more.
        if self._due_in is not loop:
            loop.call_later(HOLD_SECONDS, self._write_due)
            self._due_in = loop
        return True

    def _write_due(self) -> None:
        self._due_in = None
        self.write()

    def _hold_still(self) -> None:
        """No thread is in the middle of a line when the process is copied."""
        self._lock.acquire()
        self.write()
        self._due_in = None
