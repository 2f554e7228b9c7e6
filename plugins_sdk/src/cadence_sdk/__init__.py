"""Write plugins for Cadence: tools, agents and settings in plain Python, without knowing which framework runs them."""

from importlib.metadata import PackageNotFoundError, version

from cadence_sdk.base import BaseAgent, BasePlugin, BaseScopedAgent, BaseSpecializedAgent, Loggable, PluginMetadata
from cadence_sdk.decorators import plugin_settings
from cadence_sdk.exceptions import CadenceException
from cadence_sdk.registry import PluginContract, PluginRegistry, register_plugin
from cadence_sdk.types import (
    StreamFilter,
    ToolCall,
    UvAIMessage,
    UvContextMessage,
    UvHumanMessage,
    UvMessage,
    UvState,
    UvSystemMessage,
    UvTool,
    UvToolMessage,
    uvtool,
)
from cadence_sdk.utils import (
    check_dependency_installed,
    install_dependencies,
    validate_plugin_structure,
    validate_plugin_structure_shallow,
)

try:
    __version__ = version("cadence-sdk")
except PackageNotFoundError:
    # Run from a source tree that was never installed; the major version is what plugins ask for.
    __version__ = "2.1.0"

__all__ = [
    "BaseAgent",
    "BasePlugin",
    "BaseScopedAgent",
    "BaseSpecializedAgent",
    "CadenceException",
    "Loggable",
    "PluginContract",
    "PluginMetadata",
    "PluginRegistry",
    "StreamFilter",
    "ToolCall",
    "UvAIMessage",
    "UvContextMessage",
    "UvHumanMessage",
    "UvMessage",
    "UvState",
    "UvSystemMessage",
    "UvTool",
    "UvToolMessage",
    "__version__",
    "check_dependency_installed",
    "install_dependencies",
    "plugin_settings",
    "register_plugin",
    "uvtool",
    "validate_plugin_structure",
    "validate_plugin_structure_shallow",
]
