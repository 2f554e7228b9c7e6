"""The example plugin as a zip whose bytes depend on its sources alone."""

import io
import zipfile
from pathlib import Path

PLUGIN_DIRECTORY = Path(__file__).parent / "plugin"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold."""


def pack(directory: Path = PLUGIN_DIRECTORY) -> bytes:
    """All files below `directory`, by name, without times, owners or compression.

    Stored, not deflated: zlib's output differs between versions, and a package's digest is its identity.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                entry = zipfile.ZipInfo(name, date_time=_EPOCH)
                entry.create_system = 3
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
