"""Wheels and package indexes made on the spot, so that no test depends on what is published anywhere."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent


def wheel(name: str, version: str, source: str = "", *, requires: Sequence[str] = ()) -> bytes:
    """A wheel with one module called like the package."""
    stem = f"{name}-{version}"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    files = {
        f"{name}.py": dedent(source) or f"VERSION = {version!r}\n",
        f"{stem}.dist-info/METADATA": "\n".join(metadata) + "\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{stem}.dist-info/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return buffer.getvalue()


def wheel_name(name: str, version: str) -> str:
    return f"{name}-{version}-py3-none-any.whl"


def lock_line(name: str, version: str, content: bytes) -> str:
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"


def package_index(directory: Path, wheels: Mapping[tuple[str, str], bytes]) -> str:
    """The URL of a PEP 503 index with these wheels, by name and version."""
    pages: dict[str, list[str]] = {}
    for (name, version), content in wheels.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        file = wheel_name(name, version)
        (folder / file).write_bytes(content)
        pages.setdefault(name, []).append(f'<a href="{file}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a>')
    for name, links in pages.items():
        (directory / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    return directory.as_uri()


WHEELS = {
    ("tides", "1.0"): wheel("tides", "1.0"),
    ("tides", "2.0"): wheel("tides", "2.0", requires=["moon"]),
    ("moon", "0.5"): wheel("moon", "0.5", requires=["pydantic>=2"]),
}
"""What the index of the tests has: two versions that cannot be together, and one that needs another package."""
