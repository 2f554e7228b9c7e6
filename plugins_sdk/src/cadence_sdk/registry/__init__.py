from cadence_sdk.registry.contracts import PluginContract
from cadence_sdk.registry.plugin_registry import PluginRegistry, register_plugin

__all__ = ["PluginContract", "PluginRegistry", "register_plugin"]
