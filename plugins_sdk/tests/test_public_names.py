"""What authors import, and where they find it."""

import importlib
import importlib.metadata
import importlib.resources
import subprocess
import sys

import cadence_sdk
import pytest

TOP_LEVEL = [
    "BasePlugin",
    "BaseAgent",
    "BaseSpecializedAgent",
    "BaseScopedAgent",
    "PluginMetadata",
    "Loggable",
    "CadenceException",
    "UvTool",
    "uvtool",
    "StreamFilter",
    "UvState",
    "UvMessage",
    "UvHumanMessage",
    "UvAIMessage",
    "UvSystemMessage",
    "UvToolMessage",
    "UvContextMessage",
    "ToolCall",
    "PluginContract",
    "PluginRegistry",
    "register_plugin",
    "plugin_settings",
    "validate_plugin_structure",
    "validate_plugin_structure_shallow",
    "install_dependencies",
    "check_dependency_installed",
    "__version__",
]

SUBMODULES = {
    "base": ["BaseAgent", "BasePlugin", "BaseScopedAgent", "BaseSpecializedAgent", "PluginMetadata", "Loggable"],
    "base.metadata": ["PluginMetadata", "MIN_VERSION_PARTS", "MAX_VERSION_PARTS"],
    "types": ["UvTool", "uvtool", "StreamFilter", "UvState", "UvMessage", "ToolCall"],
    "types.sdk_tools": ["UvTool", "uvtool", "StreamFilter"],
    "types.sdk_messages": ["UvHumanMessage", "UvAIMessage", "UvToolMessage", "UvContextMessage", "ToolCall"],
    "types.sdk_state": ["UvState"],
    "decorators": ["plugin_settings"],
    "decorators.settings_decorators": ["plugin_settings", "get_plugin_settings_schema"],
    "registry": ["PluginContract", "PluginRegistry", "register_plugin"],
    "registry.contracts": ["PluginContract"],
    "registry.plugin_registry": ["PluginRegistry", "register_plugin"],
    "utils": ["validate_plugin_structure", "check_dependency_installed"],
    "utils.validation": ["validate_plugin_structure_shallow", "validate_sdk_version_compatibility"],
    "utils.installers": [
        "extract_package_name",
        "get_installed_version",
        "check_plugin_dependencies",
        "install_plugin_dependencies",
        "DEFAULT_INSTALL_TIMEOUT_SECONDS",
    ],
    "exceptions": ["CadenceException"],
    "testing": ["PluginHarness", "load_plugin", "PluginRefused", "SettingsRefused", "ArgumentsRefused", "ToolUnknown"],
}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_every_public_name_comes_from_the_top(name: str) -> None:
    assert name in cadence_sdk.__all__
    assert hasattr(cadence_sdk, name)


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in SUBMODULES.items() for n in names])
def test_names_are_found_where_authors_import_them_from(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"cadence_sdk.{module}"), name)


def test_the_version_is_one_that_published_plugins_ask_for() -> None:
    from cadence_sdk.utils.validation import validate_sdk_version_compatibility

    assert validate_sdk_version_compatibility(">=2.0.0,<3.0.0", cadence_sdk.__version__) == (True, "")


def test_the_sdk_depends_on_pydantic_and_packaging_only_and_is_typed() -> None:
    requires = importlib.metadata.requires("cadence-sdk") or []

    assert sorted(r.partition(">")[0] for r in requires) == ["packaging", "pydantic"]
    assert importlib.resources.files(cadence_sdk).joinpath("py.typed").is_file()


def test_importing_the_sdk_brings_in_nothing_of_the_platform_and_no_test_tool() -> None:
    program = "import sys, cadence_sdk, cadence_sdk.testing; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert not {"shared", "deploy", "control_plane", "runtime_worker", "msgspec", "pytest"} & set(run.stdout.split())
