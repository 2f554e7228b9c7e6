"""What the platform imports. Everything else of the plugin may lie beside it, in modules of any name."""

from typing import Annotated, Any

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, UvTool, plugin_settings, uvtool
from pydantic import Field


class Agent(BaseAgent):
    """Holds the tools, and the settings that they need."""

    def initialize(self, config: dict[str, Any]) -> None:
        self._greeting: str = config["greeting"]

    def get_tools(self) -> list[UvTool]:
        # The name, this docstring's first line and the annotations are all that a model knows of a tool.
        @uvtool
        def greet(name: Annotated[str, Field(description="Whom to greet", max_length=100)]) -> str:
            """Greet a person by name."""
            return f"{self._greeting}, {name}!"

        return [greet]


@plugin_settings([{"key": "greeting", "type": "str", "description": "The word to greet with", "default": "Hello"}])
class Plugin(BasePlugin):
    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="com.example.template",
            name="Template",
            version="1.0.0",
            description="Greets people.",
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return Agent()
