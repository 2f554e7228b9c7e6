"""A plugin of this machine, loaded and initialized in this process."""

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from cadence_sdk import BasePlugin
from cadence_sdk.decorators.settings_decorators import get_plugin_settings_schema
from cadence_sdk.testing import PluginHarness, PluginRefused, load_plugin

from deploy.errors import DeployError
from deploy.plugins.checking import Checks
from deploy.plugins.packing import pack


class PluginUnusable(DeployError):
    """The plugin cannot be loaded or started; the text says why and where."""


async def start_plugin(folder: Path, settings: list[str], checks: Checks) -> PluginHarness:
    """An agent that can be called. `settings` are `KEY=VALUE`. Raises PluginUnusable, CannotCheck.

    A plugin that imports what is not installed here gets its dependencies the way they are installed for an upload.
    """
    try:
        try:
            plugin = load_plugin(folder)
        except ModuleNotFoundError:
            # At the end: what is installed here, the SDK above all, must not come twice.
            sys.path.append(str(await _dependencies(folder, checks)))
            plugin = load_plugin(folder)
        return PluginHarness(plugin, parsed_settings(plugin, settings))
    except DeployError:
        raise
    except PluginRefused as error:
        raise PluginUnusable(str(error)) from None
    except Exception as error:
        # The author's code, which may raise anything.
        raise PluginUnusable(f"{type(error).__name__}: {error}{_place(error, folder)}") from None


async def _dependencies(folder: Path, checks: Checks) -> Path:
    checked = await checks.check(pack(folder))
    if isinstance(checked, list):
        raise PluginUnusable("; ".join(finding.message for finding in checked))
    return await checks.environment(checked)


def parsed_settings(plugin: type[BasePlugin], given: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` by key; text as it is, values of other types as JSON. Raises PluginUnusable."""
    types = {setting["key"]: setting["type"] for setting in get_plugin_settings_schema(plugin)}
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise PluginUnusable(f"A setting is KEY=VALUE, {text!r} is not.")
        try:
            values[key] = value if types.get(key, "str") == "str" else json.loads(value)
        except ValueError:
            raise PluginUnusable(f"The setting {key!r} is of type {types[key]}, {value!r} is not.") from None
    return values


def _place(error: BaseException, folder: Path) -> str:
    """The last line of the plugin's own code that the error came through."""
    if isinstance(error, SyntaxError):
        return ""
    root = folder.resolve()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
    return f" ({Path(frames[-1].filename).relative_to(root)}, line {frames[-1].lineno})" if frames else ""
