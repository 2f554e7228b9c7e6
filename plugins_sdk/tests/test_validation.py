"""Structure checks: all findings at once, in words."""

from typing import Any

import pytest
from cadence_sdk import BaseAgent, BasePlugin, validate_plugin_structure, validate_plugin_structure_shallow
from cadence_sdk.utils.validation import validate_sdk_version_compatibility

MakePlugin = Any


def raising(*_: Any) -> Any:
    raise LookupError("boom")


def agent_with(**methods: Any) -> type[BaseAgent]:
    return type("Made", (BaseAgent,), {"get_tools": lambda self: [], **methods})  # type: ignore[return-value]  # a subclass of it


def test_a_good_plugin_has_no_findings(echo_plugin: type[BasePlugin], ticket_plugin: type[BasePlugin]) -> None:
    for plugin in (echo_plugin, ticket_plugin):
        assert validate_plugin_structure_shallow(plugin) == (True, [])
        assert validate_plugin_structure(plugin) == (True, [])


@pytest.mark.parametrize("what", [object, "text", None])
def test_what_is_no_plugin_class_is_said_to_be_none(what: Any) -> None:
    for validate in (validate_plugin_structure, validate_plugin_structure_shallow):
        is_valid, errors = validate(what)
        assert not is_valid
        assert any("BasePlugin" in error for error in errors)


def test_missing_methods_are_named() -> None:
    incomplete = type("Incomplete", (BasePlugin,), {"get_metadata": BasePlugin.get_metadata})

    _, errors = validate_plugin_structure(incomplete)

    assert errors == ["Incomplete must define create_agent()", "Incomplete must define get_metadata()"]


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (raising, "create_agent() raised LookupError: boom"),
        (lambda: "no agent", "create_agent() must return a BaseAgent, it returned str"),
        (lambda: None, "create_agent() must return a BaseAgent, it returned None"),
        (agent_with(get_tools=raising), "get_tools() raised LookupError: boom"),
        (agent_with(get_tools=lambda self: ("x",)), "get_tools() must return a list of UvTool, it returned tuple"),
        (agent_with(get_tools=lambda self: None), "get_tools() must return a list of UvTool, it returned None"),
        (agent_with(get_tools=lambda self: ["x"]), "get_tools() item 0 must be a UvTool (use @uvtool), it is str"),
    ],
)
def test_what_is_wrong_with_an_agent_is_said(make_plugin: MakePlugin, agent: Any, reason: str) -> None:
    assert validate_plugin_structure(make_plugin(agent)) == (False, [reason])


def test_two_tools_of_one_name_are_a_finding(make_plugin: MakePlugin, echo_plugin: type[BasePlugin]) -> None:
    (tool,) = echo_plugin.create_agent().get_tools()

    _, errors = validate_plugin_structure(make_plugin(agent_with(get_tools=lambda self: [tool, tool])))

    assert errors == ["two tools are called 'echo'"]


def test_an_empty_prompt_of_a_specialized_agent_is_a_finding(
    make_plugin: MakePlugin, ticket_plugin: type[BasePlugin]
) -> None:
    agent = type("Silent", (type(ticket_plugin.create_agent()),), {"get_system_prompt": lambda self: " "})

    assert validate_plugin_structure(make_plugin(agent))[1] == [
        "get_system_prompt() must return text that is not empty"
    ]


def test_all_findings_come_at_once(make_plugin: MakePlugin) -> None:
    plugin = make_plugin(
        raising,
        {"validate_dependencies": lambda: ["no GPU"], "get_settings_schema": lambda: [{}]},
        sdk_version=">=3.0",
        dependencies="requests",
    )

    _, errors = validate_plugin_structure(plugin)

    for part in ("dependencies must be a list", "does not satisfy", "missing 'key'", "no GPU", "boom"):
        assert any(part in error for error in errors), part


@pytest.mark.parametrize(
    ("required", "current", "is_compatible"),
    [(">=2.0.0,<3.0.0", "2.1.0", True), (">=3", "2.9", False), ("nonsense", "2.0", False), (">=2", "nonsense", False)],
)
def test_sdk_ranges(required: str, current: str, is_compatible: bool) -> None:
    compatible, reason = validate_sdk_version_compatibility(required, current)

    assert compatible is is_compatible
    assert bool(reason) is not is_compatible
