"""Every resolved value of an instance and the tier it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from control_plane.orchestrators.definition import Definition
from control_plane.orchestrators.schemas import EffectiveConfigView, ResolvedValue
from control_plane.plugins.settings import masked
from control_plane.settings.registry import SETTINGS


def effective_config(definition: Definition) -> EffectiveConfigView:
    """Settings of the registry by what the cascade says of them; everything else only an instance can give."""
    row, found = definition.row, definition.effective()
    given = dict(_leaves("config", row.config))
    values = {
        path: ResolvedValue(value, "instance" if path in given else "default")
        for path, value in [*_leaves("config", found.config), *_leaves("chat", msgspec.to_builtins(found.chat))]
    }
    for key, resolved in found.resolved.items():
        path = _path(key)
        values[path] = ResolvedValue(values[path].value, resolved.source, resolved.fixed_by)
    for plugin in definition.plugins:
        own = row.plugin_settings.get(plugin.key, {})
        for key, value in definition.settings_of(plugin).items():
            path = f"plugin_settings.{plugin.key}.{key}"
            values[path] = ResolvedValue(masked(value), "instance" if key in own else "default")
    return EffectiveConfigView(row.id, row.revision, row.config_hash, values)


def _path(key: str) -> str:
    place = SETTINGS[key].place
    return f"config.mode_config.{key}" if place == "mode_config" else f"{place}.{key}"


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}", inner)
    else:
        yield path, value
