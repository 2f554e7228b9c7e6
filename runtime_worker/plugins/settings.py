"""A plugin's settings in the clear: opened here and nowhere else, held by the bundle that needs them."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec

from shared.errors import PluginLoadFailed, SecretUnreadable
from shared.security.data_keys import Opener
from shared.snapshots import (
    SEALED_DEFAULT_FIELD,
    SEALED_FIELD,
    PluginSnapshot,
    plugin_default_place,
    plugin_setting_place,
)

SHORTEST_SECRET_CHARS = 6


def opened_settings(plugin: PluginSnapshot, instance_id: UUID, keyring: Opener) -> dict[str, Any]:
    """Raises PluginLoadFailed when a secret cannot be opened or a required setting has no value."""
    try:
        settings = {key: _opened(plugin, instance_id, keyring, key, value) for key, value in plugin.settings.items()}
    except SecretUnreadable as error:
        raise PluginLoadFailed(f"{plugin.pid}@{plugin.version}: {error.detail}") from None
    missing = [
        s["key"] for s in plugin.manifest.settings_schema if s.get("required") and settings.get(s["key"]) is None
    ]
    if missing:
        raise PluginLoadFailed(f"{plugin.pid}@{plugin.version} needs the settings {', '.join(missing)}")
    return settings


def secret_texts(plugin: PluginSnapshot) -> tuple[str, ...]:
    """What no log may repeat of a plugin's opened settings, the longest first: one may be a part of another.

    Sensitive texts and those in sensitive lists and dictionaries, unless so short that words would be taken for them.
    """
    sensitive = [s["key"] for s in plugin.manifest.settings_schema if s.get("sensitive")]
    found = {text for key in sensitive for text in _texts(plugin.settings.get(key))}
    return tuple(sorted((text for text in found if len(text) >= SHORTEST_SECRET_CHARS), key=len, reverse=True))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _opened(plugin: PluginSnapshot, instance_id: UUID, keyring: Opener, key: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if SEALED_FIELD in value:
        place = plugin_setting_place(instance_id, f"{plugin.source}:{plugin.pid}@{plugin.version}", key)
        return msgspec.json.decode(keyring.open(value[SEALED_FIELD], **place))
    if SEALED_DEFAULT_FIELD in value:
        place = plugin_default_place(plugin.source, plugin.plugin_id, key)
        return msgspec.json.decode(keyring.open(value[SEALED_DEFAULT_FIELD], **place))
    return value
