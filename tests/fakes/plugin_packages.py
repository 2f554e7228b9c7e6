"""Plugin packages as authors would zip them, good ones and broken ones."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent, indent
from typing import Any
from uuid import UUID

from shared.ids import new_id
from shared.packages import digest_of, package_key
from shared.packages.archive import read_package
from shared.snapshots import PluginManifest, PluginSnapshot

ADD = """
@uvtool
def add(a: int, b: int) -> int:
    '''Add two numbers.'''
    return a + b
"""


def plugin_source(
    *,
    pid: str = "com.acme.calc",
    version: str = "1.0.0",
    tools: str = ADD,
    tool_names: str = "add",
    top: str = "",
    settings: list[dict[str, Any]] | None = None,
    agent: str = "",
    base: str = "BaseAgent",
    metadata: str = "",
) -> str:
    """The text of a `plugin.py`: `tools` and `top` are module-level code, `agent` more lines of the agent class."""
    return "\n".join(
        (
            "from cadence_sdk import *",
            dedent(top),
            dedent(tools),
            f"class Agent({base}):",
            "    def get_tools(self):",
            f"        return [{tool_names}]",
            indent(dedent(agent), "    "),
            f"@plugin_settings({settings or []!r})",
            "class Plugin(BasePlugin):",
            "    @staticmethod",
            "    def get_metadata():",
            f"        return PluginMetadata(pid={pid!r}, name='Calc', version={version!r},",
            f"            description='Calculates', {metadata})",
            "    @staticmethod",
            "    def create_agent():",
            "        return Agent()",
            "",
        )
    )


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip whose bytes depend on nothing but its files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def package(source: str | None = None, *, folder: str = "calc", **options: Any) -> bytes:
    """A zip with one plugin in a folder; `options` go to `plugin_source`."""
    prefix = f"{folder}/" if folder else ""
    return zipped({f"{prefix}plugin.py": source if source is not None else plugin_source(**options)})


def snapshot_of(
    data: bytes,
    *,
    pid: str = "com.acme.calc",
    version: str = "1.0.0",
    org_id: UUID | None = None,
    settings: dict[str, Any] | None = None,
    stateless: bool = True,
    settings_schema: tuple[dict[str, Any], ...] = (),
) -> PluginSnapshot:
    """What a worker gets for a package; `org_id` None makes it a system plugin."""
    return PluginSnapshot(
        plugin_id=new_id(),
        source="org" if org_id else "system",
        org_id=org_id,
        pid=pid,
        version=version,
        digest=digest_of(data),
        package_key=package_key(org_id, pid, version),
        manifest=PluginManifest(
            pid, version, "Calc", "Calculates", stateless=stateless, settings_schema=settings_schema
        ),
        settings=settings or {},
    )


def unpacked(data: bytes, directory: Path) -> Path:
    """The package's files on disk; the directory that holds `plugin.py`."""
    directory.mkdir(parents=True, exist_ok=True)
    read_package(data).write_to(directory)
    return directory
