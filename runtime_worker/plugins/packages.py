"""Packages on this machine: fetched once, verified, unpacked under their digest."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import msgspec

from shared.errors import PluginLoadFailed, PluginRefused
from shared.logging import get_logger
from shared.packages import PackageStore
from shared.packages.archive import read_package
from shared.packages.kept import KeptDirectories, remove_tree
from shared.snapshots import PluginSnapshot

log = get_logger(__name__)

_CODE, _FOLDER = "code", "folder"


class UnpackedPackage(msgspec.Struct, frozen=True):
    """`directory` holds `plugin.py`; `folder` is what that directory was called in the zip, "" for the root."""

    directory: Path
    folder: str


class PackageCache:
    """A directory of unpacked packages. Several worker processes may use the same one."""

    def __init__(self, store: PackageStore, directory: Path) -> None:
        self._store = store
        self._kept = KeptDirectories(directory)

    async def unpacked(self, plugin: PluginSnapshot) -> UnpackedPackage:
        """The package, fetched when it is not here yet. Raises PluginLoadFailed, StoreUnavailable."""
        try:
            if found := await asyncio.to_thread(self._found, plugin.digest):
                return found
            async with self._kept.alone(plugin.digest):
                # Somebody may have been faster.
                if found := await asyncio.to_thread(_unpacked_in, self._kept.root / plugin.digest):
                    return found
                data = await self._store.get(plugin.package_key, digest=plugin.digest)
                return await asyncio.to_thread(self._unpack, data, plugin.digest)
        except PluginRefused as error:
            raise PluginLoadFailed(f"{plugin.pid}@{plugin.version}: {error.detail}") from None
        except OSError as error:
            raise PluginLoadFailed(f"the package cache cannot be written ({type(error).__name__})") from error

    async def prune(self, digests: Collection[str]) -> None:
        """Remove packages that nobody has used for long; `digests` are those this process uses. Raises nothing."""
        try:
            await asyncio.to_thread(self._kept.prune, digests)
        except OSError as error:
            log.warning("packages_not_pruned", error=type(error).__name__)

    async def remove(self, digests: Collection[str]) -> None:
        """Remove these now. Raises nothing."""
        try:
            await asyncio.to_thread(self._kept.remove, digests)
        except OSError as error:
            log.warning("packages_not_removed", error=type(error).__name__)

    def _found(self, digest: str) -> UnpackedPackage | None:
        home = self._kept.use(digest)
        return _unpacked_in(home) if home else None

    def _unpack(self, data: bytes, digest: str) -> UnpackedPackage:
        files = read_package(data)
        home, work = self._kept.root / digest, self._kept.workplace(digest)
        try:
            (work / _CODE).mkdir()
            files.write_to(work / _CODE)
            (work / _FOLDER).write_text(files.folder)
            for path in work.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
            work.rename(home)
        except BaseException:
            remove_tree(work)
            raise
        return UnpackedPackage(home / _CODE, files.folder)


def _unpacked_in(home: Path) -> UnpackedPackage | None:
    try:
        return UnpackedPackage(home / _CODE, (home / _FOLDER).read_text())
    except FileNotFoundError:
        return None
