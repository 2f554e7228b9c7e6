"""Settings are checked when the class is defined."""

from typing import Any

import pytest
from cadence_sdk import BasePlugin, plugin_settings
from cadence_sdk.decorators.settings_decorators import get_plugin_settings_schema

KEY = {"key": "k", "type": "int", "description": "A number"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("text", "must be a list"),
        (["text"], "must be a dict"),
        ([{"type": "int", "description": "d"}], "missing 'key'"),
        ([{"key": "k", "description": "d"}], "missing 'type'"),
        ([{"key": "k", "type": "int"}], "missing 'description'"),
        ([KEY, KEY], "duplicate key"),
        ([{**KEY, "type": "integer"}], "Invalid type"),
        ([{**KEY, "required": "yes"}], "'required' must be"),
        ([{**KEY, "sensitive": 1}], "'sensitive' must be"),
        ([{**KEY, "default": "1"}], "not of type int"),
        ([{**KEY, "default": True}], "not of type int"),
        ([{**KEY, "type": "float", "default": True}], "not of type float"),
        ([{**KEY, "type": "list", "default": {}}], "not of type list"),
    ],
)
def test_a_wrong_declaration_fails_at_class_definition(settings: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plugin_settings(settings)


@pytest.mark.parametrize(
    ("type_name", "default"),
    [("str", "x"), ("int", 1), ("float", 1), ("float", 1.5), ("bool", True), ("list", []), ("dict", {}), ("int", None)],
)
def test_a_default_of_the_declared_type_is_taken(type_name: str, default: Any) -> None:
    plugin_settings([{**KEY, "type": type_name, "default": default}])


def test_the_decorator_is_joined_with_the_class_and_wins(make_plugin: Any) -> None:
    own = [{"key": "own", "type": "str", "description": "o"}, {**KEY, "description": "of the class"}]
    plugin: type[BasePlugin] = plugin_settings([KEY])(make_plugin(methods={"get_settings_schema": lambda: own}))

    schema = get_plugin_settings_schema(plugin)

    assert [(s["key"], s["name"], s["description"]) for s in schema] == [("k", "k", "A number"), ("own", "own", "o")]


def test_a_plugin_without_settings_has_none(echo_plugin: type[BasePlugin]) -> None:
    assert get_plugin_settings_schema(echo_plugin) == []
