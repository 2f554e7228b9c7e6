"""Packages in a directory: for one machine, or a file system that all processes share."""

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from shared.errors import PluginLoadFailed, StoreUnavailable
from shared.packages import digest_of

T = TypeVar("T")

_PART_PREFIX = ".put-"
_FORGOTTEN_SECONDS = 3600.0
"""Longer than any write takes."""
# One path segment of a key. Anything else could leave the directory, or mean two files on some systems.
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")


class DirectoryStore:
    """A file a key. A file is written beside its place and moved there, so a reader sees all of it or none."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, data: bytes) -> None:
        await _guarded(self._put, key, data)

    async def get(self, key: str, *, digest: str) -> bytes:
        data = await _guarded(self._read, key)
        if data is None:
            raise PluginLoadFailed(f"the package {key} is missing from the store")
        if await asyncio.to_thread(digest_of, data) != digest:
            raise PluginLoadFailed(f"the package {key} is not the one that was uploaded")
        return data

    async def delete(self, key: str) -> None:
        await _guarded(self._delete, key)

    async def delete_below(self, prefix: str) -> None:
        await _guarded(self._delete_below, prefix)

    async def check(self) -> None:
        await _guarded(self._probe)

    async def close(self) -> None:
        return None

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError(f"{key!r} is not a key of the package store")
        return self._root.joinpath(*segments)

    def _put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=_PART_PREFIX, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _remove_forgotten(path.parent)
        # The name is durable only when the directories that hold it are, the new ones in theirs included.
        for directory in (path.parent, *path.parent.parents):
            _sync(directory)
            if directory == self._root:
                break

    def _read(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def _delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        # Empty folders of the version and the plugin go too; a concurrent upload keeps its own.
        with suppress(OSError):
            for directory in path.parents:
                if directory == self._root:
                    break
                directory.rmdir()

    def _delete_below(self, prefix: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def _probe(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._root) as file:
            file.write(b"probe")


async def _guarded(call: Callable[..., T], *arguments: object) -> T:
    try:
        return await asyncio.to_thread(call, *arguments)
    except OSError as error:
        raise StoreUnavailable(f"the package store cannot be used ({type(error).__name__})") from error


def _remove_forgotten(directory: Path) -> None:
    """Remove what a process that was killed while it wrote has left beside a package."""
    for file in directory.glob(f"{_PART_PREFIX}*"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > _FORGOTTEN_SECONDS:
                file.unlink()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
