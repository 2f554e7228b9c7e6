"""What the inspecting process tells its parent: one JSON object a line, stages first, the report last."""

from typing import Any

import msgspec

from shared.errors import FieldError
from shared.snapshots import PluginManifest


class Stage(msgspec.Struct, frozen=True, tag="stage"):
    """What is being done now, as a phrase: when it is never finished, this is what the author is told.

    The first one names the walls this kernel does not have (`shared.security.confinement`).
    """

    doing: str
    missing_walls: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, tag="report"):
    """`manifest` is None when there was not even metadata. `defaults` are the defaults of all settings, sensitive ones
    too, which the manifest leaves out. A report with findings is a refusal.

    One that is not complete comes from a plugin whose dependencies are not installed yet: it holds what could be read
    without them, and the plugin is to be inspected again in their environment. `requires` are these dependencies.
    """

    manifest: PluginManifest | None = None
    defaults: dict[str, Any] = {}
    findings: tuple[FieldError, ...] = ()
    is_complete: bool = True
    requires: tuple[str, ...] = ()


Line = Stage | Report
