"""The packages a plugin finds without declaring them: the SDK, what it needs, and what a plugin's process needs.

They always come from this installation, never from a plugin's lock: two copies of pydantic in one process would not
know each other's models.
"""

import functools
import importlib.metadata
import importlib.util
import zipfile
from pathlib import Path

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("cadence-sdk", "pydantic", "packaging", "msgspec")


class PlatformPackage(msgspec.Struct, frozen=True):
    """`places` are its top-level modules, packages and metadata on disk. `name` is canonical (PEP 503)."""

    name: str
    version: str
    metadata: str
    places: tuple[Path, ...]


@functools.cache
def platform_packages() -> dict[str, PlatformPackage]:
    """By name, everything the roots need included."""
    found: dict[str, PlatformPackage] = {}
    wanted = list(ROOTS)
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in found:
            continue
        distribution = importlib.metadata.distribution(name)
        found[name] = PlatformPackage(
            name, distribution.version, distribution.read_text("METADATA") or "", _places(distribution)
        )
        requirements = map(Requirement, distribution.requires or ())
        wanted += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def write_descriptions(directory: Path) -> None:
    """Wheels that hold metadata only, so that a resolver knows these versions without any index."""
    for package in platform_packages().values():
        stem = f"{package.name.replace('-', '_')}-{package.version}"
        with zipfile.ZipFile(directory / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{stem}.dist-info/METADATA", package.metadata)
            wheel.writestr(
                f"{stem}.dist-info/WHEEL",
                "Wheel-Version: 1.0\nGenerator: cadence\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


def _places(distribution: importlib.metadata.Distribution) -> tuple[Path, ...]:
    names = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    places = {Path(str(distribution.locate_file(name))) for name in names if not name.endswith((".pth", "__pycache__"))}
    if distribution.name == "cadence-sdk":
        # In a checkout the SDK is installed by reference: only its metadata is in site-packages.
        spec = importlib.util.find_spec("cadence_sdk")
        if spec is not None and spec.origin is not None:
            places.add(Path(spec.origin).parent)
    return tuple(sorted(places))
