from abc import ABC, abstractmethod
from typing import Any

from cadence_sdk.base.agent import BaseAgent
from cadence_sdk.base.metadata import PluginMetadata


class BasePlugin(ABC):
    """A stateless factory: only static methods, never instantiated by the platform."""

    @staticmethod
    @abstractmethod
    def get_metadata() -> PluginMetadata: ...

    @staticmethod
    @abstractmethod
    def create_agent() -> BaseAgent:
        """A fresh agent on every call."""
        ...

    @staticmethod
    def validate_dependencies() -> list[str]:
        """What is missing for the plugin to work, one sentence each; empty when all is well."""
        return []

    @staticmethod
    def get_settings_schema() -> list[dict[str, Any]]:
        """Settings in the form that `plugin_settings` takes."""
        return []

    @staticmethod
    def health_check() -> dict[str, Any]:
        return {"status": "unknown"}
