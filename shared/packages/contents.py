"""What is in a loaded package: the plugin class, its agent's tools. The same eyes at upload and in a worker."""

import inspect
from collections.abc import Iterable
from types import ModuleType

from cadence_sdk import BasePlugin, UvTool
from cadence_sdk.types.tool_arguments import arguments_schema

from shared.packages.modules import PackageModules
from shared.snapshots import ToolDescription


def find_plugin_class(module: ModuleType, package: PackageModules) -> type[BasePlugin] | None:
    """The first concrete BasePlugin subclass in `plugin.py`, in the order it was written.

    One that `plugin.py` imports from a module beside it counts after those it defines itself.
    """
    classes = [c for c in vars(module).values() if _is_concrete_plugin(c) and package.owns(c.__module__)]
    classes.sort(key=lambda c: c.__module__ != module.__name__)
    return classes[0] if classes else None


def describe_tools(tools: Iterable[UvTool]) -> tuple[ToolDescription, ...]:
    """Raises whatever a bad annotation raises."""
    return tuple(ToolDescription(tool.name, tool.description, arguments_schema(tool)) for tool in tools)


def _is_concrete_plugin(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BasePlugin) and not inspect.isabstract(value)
