"""Settings that an admin fills in for a plugin."""

from collections.abc import Callable
from typing import Any, TypeVar

SETTING_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
SCHEMA_ATTRIBUTE = "_cadence_settings_schema"

C = TypeVar("C", bound=type)


def plugin_settings(settings: list[dict[str, Any]]) -> Callable[[C], C]:
    """Declare settings on a plugin class.

    Each entry needs `key`, `type` (str, int, float, bool, list or dict) and `description`, and may have `name`
    (otherwise the key), `default`, `required` and `sensitive`. Raises ValueError for anything else when the class is
    defined, so that a typing mistake never reaches an admin.
    """
    entries = validate_settings(settings)

    def attach(cls: C) -> C:
        setattr(cls, SCHEMA_ATTRIBUTE, entries)
        return cls

    return attach


def get_plugin_settings_schema(plugin_class: type) -> list[dict[str, Any]]:
    """The decorator's settings joined with those of the class's own `get_settings_schema`; the decorator's win."""
    entries: list[dict[str, Any]] = [dict(e) for e in getattr(plugin_class, SCHEMA_ATTRIBUTE, [])]
    own = getattr(plugin_class, "get_settings_schema", None)
    declared = validate_settings(own()) if callable(own) else []
    known = {entry["key"] for entry in entries}
    return entries + [entry for entry in declared if entry["key"] not in known]


def is_of_type(value: Any, type_name: str) -> bool:
    """Whether a value suits a setting's type. A bool is no int and no float, an int is a float."""
    if isinstance(value, bool) and type_name != "bool":
        return False
    return isinstance(value, SETTING_TYPES[type_name])


def validate_settings(settings: Any) -> list[dict[str, Any]]:
    """The entries with `name` filled in. Raises ValueError naming the entry and what is wrong with it."""
    if not isinstance(settings, list):
        raise ValueError(f"Plugin settings must be a list of dicts, not {type(settings).__name__}")
    entries: list[dict[str, Any]] = []
    for position, setting in enumerate(settings):
        entry = _validate_entry(setting, position)
        if any(entry["key"] == other["key"] for other in entries):
            raise ValueError(f"Setting {entry['key']!r} is declared twice: duplicate key")
        entries.append(entry)
    return entries


def _validate_entry(setting: Any, position: int) -> dict[str, Any]:
    if not isinstance(setting, dict):
        raise ValueError(f"Setting {position} must be a dict, not {type(setting).__name__}")
    for field in ("key", "type", "description"):
        if field not in setting:
            raise ValueError(f"Setting {position} is missing '{field}'")
        if not isinstance(setting[field], str) or not setting[field]:
            raise ValueError(f"Setting {position}: '{field}' must be text and not empty")
    key, type_name = setting["key"], setting["type"]
    if type_name not in SETTING_TYPES:
        raise ValueError(f"Invalid type {type_name!r} of setting {key!r}: use one of {', '.join(SETTING_TYPES)}")
    for flag in ("required", "sensitive"):
        if flag in setting and not isinstance(setting[flag], bool):
            raise ValueError(f"Setting {key!r}: '{flag}' must be True or False")
    default = setting.get("default")
    if default is not None and not is_of_type(default, type_name):
        raise ValueError(f"Setting {key!r}: the default {default!r} is not of type {type_name}")
    return {**setting, "name": setting.get("name") or key}
