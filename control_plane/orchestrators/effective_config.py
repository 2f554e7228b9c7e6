"""Every resolved value of an instance and the tier it came from."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.schemas import EffectiveConfigView, ResolvedValue
from control_plane.plugins.settings import masked
from shared.frameworks import Mode
from shared.orchestrator_config import default_config


def effective_config(definition: Definition) -> EffectiveConfigView:
    """Two tiers so far: the code's (or the plugin author's) default and the instance."""
    row = definition.row
    defaults = _default_config(Mode(row.mode), row.config)
    values = {
        path: ResolvedValue(value, "default" if path in defaults and defaults[path] == value else "instance")
        for path, value in _leaves("config", row.config)
    }
    for plugin in definition.plugins:
        given = row.plugin_settings.get(plugin.key, {})
        for key, value in definition.settings_of(plugin).items():
            path = f"plugin_settings.{plugin.key}.{key}"
            values[path] = ResolvedValue(masked(value), "instance" if key in given else "default")
    return EffectiveConfigView(row.id, row.revision, row.config_hash, values)


def _default_config(mode: Mode, stored: dict[str, Any]) -> dict[str, Any]:
    """The defaults by path; what has none (the llm_config) is not in it."""
    plain = default_config(mode, UUID(stored["default_llm_config_id"]))
    defaults = dict(_leaves("config", msgspec.to_builtins(plain)))
    del defaults["config.default_llm_config_id"]
    return defaults


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    else:
        yield path, value
