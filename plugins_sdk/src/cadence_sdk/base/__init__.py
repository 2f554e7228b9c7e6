"""What a plugin is made of: a factory, an agent, and what they say of themselves."""

from cadence_sdk.base.agent import BaseAgent, BaseScopedAgent, BaseSpecializedAgent
from cadence_sdk.base.loggable import Loggable
from cadence_sdk.base.metadata import PluginMetadata
from cadence_sdk.base.plugin import BasePlugin

__all__ = ["BaseAgent", "BasePlugin", "BaseScopedAgent", "BaseSpecializedAgent", "Loggable", "PluginMetadata"]
