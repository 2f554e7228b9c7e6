"""Temporary directories of a process that may be killed: the next process removes what it could not."""

import asyncio
import fcntl
import os
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from shared.logging import get_logger
from shared.packages.kept import remove_tree

log = get_logger(__name__)

_GATE = ".lock"


class Workplaces:
    """Directories below one of this process's own, which is locked as long as the process lives.

    Of processes that share the root, each removes what the dead ones left when it opens its own. All calls but
    `temporary` block; OSErrors are for the caller to name.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._opening = threading.Lock()
        self._home: Path | None = None
        self._removal: weakref.finalize[..., Workplaces] | None = None

    def open(self) -> Path:
        """The directory of this process; the first call makes it, and removes those of the dead."""
        with self._opening:
            if self._home is None:
                self._home, lock = _own_directory(self._root)
                self._removal = weakref.finalize(self, _give_up, self._home, lock)
            return self._home

    def make(self, prefix: str) -> Path:
        """An empty directory that only this user may enter. Whoever asks removes it."""
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.open()))

    @asynccontextmanager
    async def temporary(self, prefix: str) -> AsyncIterator[Path]:
        """Such a directory for the length of a block."""
        home = await asyncio.to_thread(self.make, prefix)
        try:
            yield home
        finally:
            await asyncio.shield(asyncio.to_thread(remove_tree, home))

    def close(self) -> None:
        """Remove what is left, and the lock."""
        with self._opening:
            self._home = None
            if self._removal is not None:
                self._removal()


def _own_directory(root: Path) -> tuple[Path, int]:
    """A directory with the descriptor that locks it."""
    root.mkdir(parents=True, exist_ok=True)
    # Nobody sweeps between the making of a directory and its lock.
    with _gate(root):
        for found in root.iterdir():
            if found.is_dir() and not found.is_symlink():
                _sweep(found)
        home = Path(tempfile.mkdtemp(prefix="process-", dir=root))
        lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return home, lock


def _give_up(home: Path, lock: int) -> None:
    remove_tree(home)
    os.close(lock)


def _sweep(home: Path) -> None:
    """Remove the directory of a process unless that lives."""
    with suppress(FileNotFoundError, PermissionError, BlockingIOError):
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            log.info("leftovers_of_a_dead_process_removed", directory=home.name)
            remove_tree(home)
        finally:
            os.close(descriptor)


@contextmanager
def _gate(root: Path) -> Iterator[None]:
    descriptor = os.open(root / _GATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
