from collections.abc import Mapping
from typing import Any

from cadence_sdk.base.plugin import BasePlugin
from cadence_sdk.decorators.settings_decorators import get_plugin_settings_schema, is_of_type
from cadence_sdk.testing.errors import SettingsRefused


def effective_settings(plugin_class: type[BasePlugin], given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `initialize` gets: the defaults of the schema, and above them what an admin gave.

    A setting that is neither given nor has a default is left out, and so is one given as None, which means its default.
    Raises SettingsRefused naming every unknown key, wrong type and missing required setting.
    """
    schema = {setting["key"]: setting for setting in get_plugin_settings_schema(plugin_class)}
    chosen = {key: value for key, value in (given or {}).items() if value is not None}
    problems = [f"there is no setting {key!r}" for key in given or {} if key not in schema]
    problems += [
        f"the setting {key!r} must be of type {schema[key]['type']}, {value!r} is not"
        for key, value in chosen.items()
        if key in schema and not is_of_type(value, schema[key]["type"])
    ]
    defaults = {key: setting["default"] for key, setting in schema.items() if setting.get("default") is not None}
    settings = {**defaults, **chosen}
    problems += [
        f"the setting {key!r} is required and has no value"
        for key, setting in schema.items()
        if setting.get("required") and key not in settings
    ]
    if problems:
        raise SettingsRefused(problems)
    return settings
