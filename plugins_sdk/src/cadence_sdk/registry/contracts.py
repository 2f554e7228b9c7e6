import inspect
from functools import cached_property
from typing import Any

from cadence_sdk.base.agent import BaseAgent, BaseScopedAgent, BaseSpecializedAgent
from cadence_sdk.base.metadata import PluginMetadata
from cadence_sdk.base.plugin import BasePlugin


class PluginContract:
    """A plugin class as the platform looks at it. Equal when pid and version are.

    Raises TypeError for a class that is no plugin.
    """

    def __init__(self, plugin_class: type[BasePlugin]) -> None:
        candidate: Any = plugin_class
        if not inspect.isclass(candidate) or not issubclass(candidate, BasePlugin):
            name = getattr(candidate, "__name__", repr(candidate))
            raise TypeError(f"{name} must inherit from BasePlugin")
        self.plugin_class = plugin_class

    @cached_property
    def metadata(self) -> PluginMetadata:
        return self.plugin_class.get_metadata()

    @property
    def pid(self) -> str:
        return self.metadata.pid

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str:
        return self.metadata.version

    @property
    def description(self) -> str:
        return self.metadata.description

    @property
    def capabilities(self) -> list[str]:
        return self.metadata.capabilities

    @property
    def is_stateless(self) -> bool:
        return self.metadata.stateless

    @property
    def is_specialized(self) -> bool:
        return issubclass(self._agent_class, BaseSpecializedAgent)

    @property
    def is_scoped(self) -> bool:
        return issubclass(self._agent_class, BaseScopedAgent)

    @cached_property
    def _agent_class(self) -> type[BaseAgent]:
        # An annotation may name a base class, so only an agent that was really made tells.
        return type(self.plugin_class.create_agent())

    def create_agent(self) -> BaseAgent:
        return self.plugin_class.create_agent()

    def validate_dependencies(self) -> list[str]:
        return self.plugin_class.validate_dependencies()

    def health_check(self) -> dict[str, Any]:
        return self.plugin_class.health_check()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PluginContract):
            return NotImplemented
        return (self.pid, self.version) == (other.pid, other.version)

    def __hash__(self) -> int:
        return hash((self.pid, self.version))

    def __repr__(self) -> str:
        return f"<PluginContract {self.pid}@{self.version}>"
