"""A new plugin out of the template beside this file, which is a working plugin itself."""

import re
from pathlib import Path

from deploy.errors import DeployError

TEMPLATE = Path(__file__).parent / "template"
DEFAULT_DOMAIN = "com.example"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PID = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)+")
_TEMPLATE_PID = "com.example.template"


class NameRefused(DeployError):
    """A name no plugin can have."""

    exit_code = 2


class FolderExists(DeployError):
    """There is something where the new plugin would go, and it is not touched."""


def create_plugin(name: str, parent: Path, *, pid: str | None = None) -> Path:
    """Make the folder `parent/name` with a plugin that works; the folder. Raises NameRefused, FolderExists."""
    if not _NAME.fullmatch(name):
        raise NameRefused(f"{name!r} is no name for a plugin: use 1 to 64 letters, digits, - or _, a letter first.")
    pid = pid or f"{DEFAULT_DOMAIN}.{name.lower()}"
    if not _PID.fullmatch(pid) or len(pid) > 128:
        raise NameRefused(f"{pid!r} is no pid: use a reversed domain name such as com.example.{name.lower()}.")
    folder = parent / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise FolderExists(f"{folder} exists already; choose another name or remove it.") from None
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            target = folder / source.relative_to(TEMPLATE)
            target.parent.mkdir(exist_ok=True)
            target.write_text(_named(source.read_text(), name, pid))
    return folder


def _named(text: str, name: str, pid: str) -> str:
    title = " ".join(filter(None, re.split(r"[-_]+", name)))
    return re.sub(r"\bTemplate\b", title[:1].upper() + title[1:], text.replace(_TEMPLATE_PID, pid))
