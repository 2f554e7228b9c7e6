"""A plugin's folder as a zip whose bytes depend on its sources alone."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from deploy.errors import DeployError

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold."""
_LEFT_OUT = frozenset({"tests", "build", "dist", "venv"})
"""Beside `plugin.py`; deeper down a folder of such a name may well be imported."""
_LEFT_OUT_ANYWHERE = frozenset({"__pycache__", "node_modules"})
_LEFT_OUT_SUFFIXES = (".pyc", ".zip", ".egg-info")


class NothingToPack(DeployError):
    """The folder holds no plugin."""

    exit_code = 2


def pack(directory: Path) -> bytes:
    """All files of the plugin, by name, without times, owners or compression. Raises NothingToPack.

    Stored, not deflated: zlib's output differs between versions, and a package's digest is its identity.
    """
    if not (directory / "plugin.py").is_file():
        raise NothingToPack(f"{directory} is no plugin: there is no plugin.py in it.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, path in packed_files(directory):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def packed_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of what belongs to the package: no tests, no caches, nothing hidden, nothing behind a link, since
    what lies elsewhere was hardly meant to be given away.
    """
    found = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*")}
    for name in sorted(found):
        path = found[name]
        if path.is_file() and not path.is_symlink() and not _is_left_out(name.split("/")):
            yield name, path


def _is_left_out(parts: list[str]) -> bool:
    return parts[0] in _LEFT_OUT or any(
        part.startswith(".") or part in _LEFT_OUT_ANYWHERE or part.endswith(_LEFT_OUT_SUFFIXES) for part in parts
    )


def package_of(path: Path) -> bytes:
    """A folder packed, or a zip as it is. Raises NothingToPack."""
    if path.is_dir():
        return pack(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise NothingToPack(f"{path} cannot be read: {error.strerror or error}.") from None
