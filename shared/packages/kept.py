"""Directories that are made once, under a name that says what is in them, used by many, and removed when nobody does.

Several processes may work below the same root. A directory is made beside its place and moved there, so what is there
is always whole; when it was last used is its time of change. Whoever makes or removes one holds its lock, which the
kernel takes from a process that dies.
"""

import asyncio
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from shared.logging import get_logger

log = get_logger(__name__)

KEPT_DAYS = 14.0
"""Whoever comes back to a plugin after that waits for its packages once more."""

_POLL_SECONDS = 0.1
# Digests. Whatever else somebody has put below the root is not ours to remove.
_NAME = re.compile(r"(base-)?[0-9a-f]{40,64}")
_MAKING, _REMOVING = ".making-", ".removing-"
_LOCKS = ".locks"
_RANDOM_CHARS = 8


class KeptDirectories:
    """All calls but `alone` block. OSErrors are for the caller to name."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._flights: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def use(self, name: str) -> Path | None:
        """The directory, marked as used now; None when it is not there, or on its way in or out."""
        home = self.root / name
        try:
            with _locked(self.root, name, fcntl.LOCK_SH) as is_ours:
                if not (is_ours and home.is_dir()):
                    return None
                os.utime(home)
        except OSError:
            # A cache that came with an image, or is another user's, can be used, and is that one's to keep.
            return home if home.is_dir() else None
        return home

    def check(self, name: str) -> None:
        """Raises OSError where nothing of this name can be made."""
        os.close(_open_lock(self.root, name))

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """One at a time for a name, in this process and among those that share the root."""
        async with self._flights.setdefault(name, asyncio.Lock()):
            descriptor = await asyncio.to_thread(_open_lock, self.root, name)
            try:
                # Asked again and again instead of waited for in a thread, which nothing could cancel.
                while not _try_lock(descriptor, fcntl.LOCK_EX):  # noqa: ASYNC110 - another process has no event to set
                    await asyncio.sleep(_POLL_SECONDS)
                yield
            finally:
                os.close(descriptor)

    def workplace(self, name: str) -> Path:
        """An empty directory on the same file system to make `name` in. Whoever asks holds its lock, and removes it."""
        return Path(tempfile.mkdtemp(prefix=f"{_MAKING}{name}-", dir=self.root))

    def prune(self, in_use: Collection[str], *, kept_days: float = KEPT_DAYS) -> list[str]:
        """Remove what nobody used for so long, and what processes that were killed left half-made; what was removed.

        `in_use` is what this process still uses: it is marked, so that no other process removes it either.
        """
        for name in in_use:
            self.use(name)
        removed = []
        for entry in self._entries():
            if half_done := _half_done(entry.name):
                with _locked(self.root, half_done, fcntl.LOCK_EX) as is_ours:
                    # Its maker would hold the lock.
                    if is_ours:
                        remove_tree(entry)
                        removed.append(entry.name)
            elif _NAME.fullmatch(entry.name) and entry.name not in in_use and self._remove(entry, kept_days):
                removed.append(entry.name)
        if removed:
            log.info("unused_directories_removed", root=str(self.root), count=len(removed))
        return removed

    def remove(self, names: Collection[str]) -> None:
        """Remove these, however lately they were used, unless somebody is just making or removing one."""
        for name in names:
            if _NAME.fullmatch(name):
                self._remove(self.root / name, 0)
                (self.root / _LOCKS / name).unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        try:
            return [entry for entry in self.root.iterdir() if entry.is_dir() and not entry.is_symlink()]
        except FileNotFoundError:
            return []

    def _remove(self, home: Path, kept_days: float) -> bool:
        with _locked(self.root, home.name, fcntl.LOCK_EX) as is_ours, suppress(FileNotFoundError):
            if is_ours and time.time() - home.stat().st_mtime > kept_days * 86400:
                # Out of sight first: nobody ever finds half of it.
                gone = self.root / f"{_REMOVING}{home.name}-{os.urandom(_RANDOM_CHARS // 2).hex()}"
                home.rename(gone)
                remove_tree(gone)
                return True
        return False


def remove_tree(directory: Path) -> None:
    """Remove a directory whose parts may be read-only. What cannot be removed stays."""
    for folder, names, _ in os.walk(directory):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if not path.is_symlink():
                with suppress(OSError):
                    path.chmod(stat.S_IRWXU)
    shutil.rmtree(directory, ignore_errors=True)


def _half_done(name: str) -> str | None:
    """The name of what is made or removed in a directory of this name; None for what is neither."""
    for prefix in (_MAKING, _REMOVING):
        if name.startswith(prefix):
            return name.removeprefix(prefix).rpartition("-")[0]
    return None


@contextmanager
def _locked(root: Path, name: str, kind: int) -> Iterator[bool]:
    """Hold a lock if it is to be had at once."""
    descriptor = _open_lock(root, name)
    try:
        yield _try_lock(descriptor, kind)
    finally:
        os.close(descriptor)


def _open_lock(root: Path, name: str) -> int:
    folder = root / _LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    return False
