"""Drive a plugin without the platform: in a test, in a script, in a prompt.

    harness = PluginHarness(WeatherPlugin, settings={"units": "mm"})
    assert await harness.call("rain", city="Bonn") == "3 mm"

Settings, arguments, threads and filters are treated as the platform treats them. What a tool raises is not: here it
comes out as it is, since the author wants to see it.
"""

from cadence_sdk.testing.errors import ArgumentsRefused, PluginRefused, SettingsRefused, ToolUnknown
from cadence_sdk.testing.harness import PluginHarness
from cadence_sdk.testing.loading import load_plugin
from cadence_sdk.testing.settings import effective_settings

__all__ = [
    "ArgumentsRefused",
    "PluginHarness",
    "PluginRefused",
    "SettingsRefused",
    "ToolUnknown",
    "effective_settings",
    "load_plugin",
]
