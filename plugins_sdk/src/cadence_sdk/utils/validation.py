"""The structure checks of an upload, for authors and the platform alike. All findings at once, one sentence each."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from cadence_sdk.base.agent import BaseAgent, BaseSpecializedAgent
from cadence_sdk.base.metadata import PluginMetadata
from cadence_sdk.base.plugin import BasePlugin
from cadence_sdk.decorators.settings_decorators import get_plugin_settings_schema
from cadence_sdk.types.sdk_tools import UvTool
from cadence_sdk.types.tool_arguments import arguments_schema


def validate_plugin_structure_shallow(plugin_class: Any) -> tuple[bool, list[str]]:
    """Class, metadata and settings schema, without making an agent."""
    errors: list[str] = []
    if _check_class(plugin_class, errors):
        _check_metadata(plugin_class, errors)
        _attempt("get_settings_schema()", lambda: get_plugin_settings_schema(plugin_class), errors)
    return not errors, errors


def validate_plugin_structure(plugin_class: Any) -> tuple[bool, list[str]]:
    """Everything: the shallow checks, dependencies, the agent, its tools and its prompt."""
    _, errors = validate_plugin_structure_shallow(plugin_class)
    if not _is_plugin_class(plugin_class):
        return False, errors
    _check_dependencies(plugin_class, errors)
    if not getattr(plugin_class.create_agent, "__isabstractmethod__", False):
        agent = _attempt("create_agent()", plugin_class.create_agent, errors)
        if isinstance(agent, BaseAgent):
            check_agent(agent, errors)
        elif agent is not None:
            errors.append(f"create_agent() must return a BaseAgent, it returned {type(agent).__name__}")
        elif not any("create_agent()" in error for error in errors):
            errors.append("create_agent() must return a BaseAgent, it returned None")
    return not errors, errors


def check_agent(agent: BaseAgent, errors: list[str]) -> list[UvTool]:
    """Add what is wrong with an agent's tools and prompt to `errors`; the tools that are right."""
    if isinstance(agent, BaseSpecializedAgent):
        prompt = _attempt("get_system_prompt()", agent.get_system_prompt, errors)
        if prompt is not None and not (isinstance(prompt, str) and prompt.strip()):
            errors.append("get_system_prompt() must return text that is not empty")
    tools = _attempt("get_tools()", agent.get_tools, errors)
    if tools is None:
        if not any("get_tools()" in error for error in errors):
            errors.append("get_tools() must return a list of UvTool, it returned None")
        return []
    if not isinstance(tools, list):
        errors.append(f"get_tools() must return a list of UvTool, it returned {type(tools).__name__}")
        return []
    return _check_tools(tools, errors)


def validate_sdk_version_compatibility(required: str, current: str) -> tuple[bool, str]:
    """Whether version `current` lies in the range `required`, and if not, why."""
    try:
        if Version(current) in SpecifierSet(required, prereleases=True):
            return True, ""
    except (InvalidSpecifier, InvalidVersion) as error:
        return False, f"Invalid version requirement: {error}"
    return False, f"SDK version {current} does not satisfy {required}"


def _check_tools(tools: list[Any], errors: list[str]) -> list[UvTool]:
    good: list[UvTool] = []
    for position, tool in enumerate(tools):
        if not isinstance(tool, UvTool):
            errors.append(f"get_tools() item {position} must be a UvTool (use @uvtool), it is {type(tool).__name__}")
        elif any(tool.name == other.name for other in good):
            errors.append(f"two tools are called {tool.name!r}")
        elif (
            _attempt(f"the argument schema of tool {tool.name!r}", functools.partial(arguments_schema, tool), errors)
            is None
        ):
            continue
        else:
            good.append(tool)
    return good


def _is_plugin_class(plugin_class: Any) -> bool:
    return inspect.isclass(plugin_class) and issubclass(plugin_class, BasePlugin)


def _check_class(plugin_class: Any, errors: list[str]) -> bool:
    """Whether it makes sense to ask the class for its metadata."""
    if not inspect.isclass(plugin_class):
        errors.append(f"a plugin must be a class that inherits from BasePlugin, not {type(plugin_class).__name__}")
        return False
    if not issubclass(plugin_class, BasePlugin):
        errors.append(f"{plugin_class.__name__} must inherit from BasePlugin")
        return False
    missing = sorted(getattr(plugin_class, "__abstractmethods__", ()))
    errors.extend(f"{plugin_class.__name__} must define {name}()" for name in missing)
    return "get_metadata" not in missing


def _check_metadata(plugin_class: type[BasePlugin], errors: list[str]) -> None:
    metadata: Any = _attempt("get_metadata()", plugin_class.get_metadata, errors)
    if metadata is None:
        return
    if not isinstance(metadata, PluginMetadata):
        errors.append(f"get_metadata() must return a PluginMetadata, it returned {type(metadata).__name__}")
        return
    _check_fields(metadata, errors)
    _check_sdk_version(metadata.sdk_version, errors)


def _check_fields(metadata: Any, errors: list[str]) -> None:
    # A dataclass holds whatever an author put in, so nothing is taken to be of its annotated type.
    errors.extend(
        f"metadata: {name} must be text and not empty"
        for name in ("pid", "name", "version", "description")
        if not (isinstance(getattr(metadata, name), str) and getattr(metadata, name).strip())
    )
    try:
        Version(str(metadata.version))
    except InvalidVersion:
        errors.append(f"metadata: {metadata.version!r} is not a valid version")
    for name in ("capabilities", "dependencies"):
        value = getattr(metadata, name)
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            errors.append(f"metadata: {name} must be a list of texts")
    if not isinstance(metadata.stateless, bool):
        errors.append("metadata: stateless must be True or False")


def _check_sdk_version(sdk_version: Any, errors: list[str]) -> None:
    from cadence_sdk import __version__

    if not (isinstance(sdk_version, str) and sdk_version):
        errors.append("metadata: sdk_version must name a range, for instance '>=2.0.0,<3.0.0'")
        return
    compatible, reason = validate_sdk_version_compatibility(sdk_version, __version__)
    if not compatible:
        errors.append(f"metadata: {reason}")


def _check_dependencies(plugin_class: type[BasePlugin], errors: list[str]) -> None:
    missing = _attempt("validate_dependencies()", plugin_class.validate_dependencies, errors)
    if isinstance(missing, list):
        errors.extend(f"Dependency missing: {reason}" for reason in missing)
    elif missing is not None:
        errors.append(f"validate_dependencies() must return a list, it returned {type(missing).__name__}")


def _attempt(what: str, call: Callable[[], Any], errors: list[str]) -> Any:
    """The result, or None and an entry in `errors`: the author's code may raise anything, and other checks go on."""
    try:
        return call()
    except Exception as error:
        errors.append(f"{what} raised {type(error).__name__}: {error}")
        return None
