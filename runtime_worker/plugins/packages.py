"""Packages on this machine: fetched once, verified, unpacked under their digest."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from shared.errors import PluginLoadFailed, PluginRefused
from shared.packages import PackageStore
from shared.packages.archive import read_package
from shared.snapshots import PluginSnapshot

_CODE, _FOLDER = "code", "folder"


class UnpackedPackage(msgspec.Struct, frozen=True):
    """`directory` holds `plugin.py`; `folder` is what that directory was called in the zip, "" for the root."""

    directory: Path
    folder: str


class PackageCache:
    """A directory of unpacked packages. Several worker processes may use the same one."""

    def __init__(self, store: PackageStore, directory: Path) -> None:
        self._store = store
        self._directory = directory
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def unpacked(self, plugin: PluginSnapshot) -> UnpackedPackage:
        """The package, fetched when it is not here yet. Raises PluginLoadFailed, StoreUnavailable."""
        lock = self._locks.setdefault(plugin.digest, asyncio.Lock())
        async with lock:
            home = self._directory / plugin.digest
            if (found := await asyncio.to_thread(_found, home)) is not None:
                return found
            data = await self._store.get(plugin.package_key, digest=plugin.digest)
            try:
                return await asyncio.to_thread(_unpack, data, home)
            except PluginRefused as error:
                raise PluginLoadFailed(f"{plugin.pid}@{plugin.version}: {error.detail}") from None
            except OSError as error:
                raise PluginLoadFailed(f"the package cache cannot be written ({type(error).__name__})") from error


def _found(home: Path) -> UnpackedPackage | None:
    try:
        return UnpackedPackage(home / _CODE, (home / _FOLDER).read_text())
    except FileNotFoundError:
        return None


def _unpack(data: bytes, home: Path) -> UnpackedPackage:
    """Unpack beside the final place and move there, so that what is there is always whole."""
    files = read_package(data)
    home.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=home.parent))
    try:
        (temporary / _CODE).mkdir()
        files.write_to(temporary / _CODE)
        (temporary / _FOLDER).write_text(files.folder)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        try:
            temporary.rename(home)
        except OSError:
            # Another process was faster; its copy is the same, unless the trouble was something else.
            if _found(home) is None:
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return UnpackedPackage(home / _CODE, files.folder)
