"""Plugins that an operator puts on the server's disk instead of uploading them: `{pid}/{version}/plugin.py`.

At start each is packed and goes the way of every upload, through the same checks into the same catalogue and store, so
that nothing else knows where it came from. One that is there already costs a comparison; a bad one stops no other.
"""

import asyncio
import io
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import UUID

import msgspec

from control_plane.plugins.pending import Register, Upload
from shared.errors import DomainError, Kind, PluginRefused
from shared.ids import parse_id
from shared.logging import get_logger
from shared.packages import digest_of
from shared.packages.archive import ENTRY_POINT, MAX_ENTRIES, MAX_PACKAGE_BYTES
from shared.packages.inspection.preparation import Preparation
from shared.settings import DirectoryPluginSettings

log = get_logger(__name__)

RETRY_SECONDS = 30.0
"""Until another attempt when a store or the package index did not answer."""


class DirectoryPlugin(msgspec.Struct, frozen=True):
    """One folder with a `plugin.py`. `owner` is None for the system catalogue."""

    owner: UUID | None
    folder: Path

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def pid(self) -> str:
        return self.folder.parent.name


IsKnown = Callable[[DirectoryPlugin, str], Awaitable[bool]]
"""Whether a plugin is in the catalogue with this digest already."""


class DirectoryPlugins:
    def __init__(
        self, settings: DirectoryPluginSettings, preparation: Preparation, register: Register, is_known: IsKnown
    ) -> None:
        self._settings = settings
        self._preparation = preparation
        self._register = register
        self._is_known = is_known

    async def run(self) -> None:
        """Register what is there, and try again later what could not be tried; ends when nothing is left to try."""
        waiting = await asyncio.to_thread(lambda: list(found(self._settings)))
        while waiting := [plugin for plugin in waiting if not await self.register(plugin)]:  # noqa: ASYNC110 - a delay
            await asyncio.sleep(RETRY_SECONDS)

    async def register(self, plugin: DirectoryPlugin) -> bool:
        """Whether that is settled, one way or the other."""
        named = {"pid": plugin.pid, "version": plugin.version, "folder": str(plugin.folder)}
        try:
            data = await asyncio.to_thread(packed, plugin.folder)
            if await self._is_known(plugin, digest_of(data)):
                return True
            prepared = await self._preparation.prepare(data)
            said = (prepared.manifest.pid, prepared.manifest.version)
            if said != (plugin.pid, plugin.version):
                raise PluginRefused(f"its metadata says {said[0]}@{said[1]}, which is not where it lies")
            await self._register(Upload(plugin.owner, data, created_by=None), prepared)
        except DomainError as error:
            is_settled = error.kind is not Kind.NOT_READY
            log.warning("directory_plugin_refused", **named, reason=error.detail, tried_again=not is_settled)
            return is_settled
        except Exception as error:
            # Whatever is wrong with one plugin, or with a store right now, the others and the server go on.
            log.warning("directory_plugin_failed", **named, reason=type(error).__name__, tried_again=True)
            return False
        log.info("directory_plugin_registered", **named)
        return True


def found(settings: DirectoryPluginSettings) -> Iterator[DirectoryPlugin]:
    if settings.system_directory is not None:
        yield from _below(settings.system_directory, None)
    if settings.tenant_root is not None:
        for folder in _folders(settings.tenant_root):
            if owner := parse_id(folder.name):
                yield from _below(folder, owner)
            else:
                log.warning("directory_plugins_ignored", folder=str(folder), reason="no organization id")


def packed(folder: Path) -> bytes:
    """A zip whose bytes depend on nothing but the files: not compressed, because compressors change over the years.

    Raises PluginRefused for a folder that would make too large a package.
    """
    files = sorted(path for path in folder.rglob("*") if _belongs(path, folder))
    if len(files) > MAX_ENTRIES or sum(path.stat().st_size for path in files) > MAX_PACKAGE_BYTES:
        raise PluginRefused(f"more than {MAX_ENTRIES} files or {MAX_PACKAGE_BYTES // 1024**2} MiB")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in files:
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return buffer.getvalue()


def _below(directory: Path, owner: UUID | None) -> Iterator[DirectoryPlugin]:
    for pid in _folders(directory):
        for version in _folders(pid):
            if (version / ENTRY_POINT).is_file():
                yield DirectoryPlugin(owner, version)


def _folders(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        log.warning("directory_plugins_ignored", folder=str(directory), reason=type(error).__name__)
        return []


def _belongs(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
    return path.is_file() and not path.is_symlink() and not hidden
