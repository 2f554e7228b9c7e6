"""Plugins for the tests of the SDK, as fixtures: the classes themselves, not instances."""

from collections.abc import Callable
from typing import Any

import pytest
from cadence_sdk import (
    BaseAgent,
    BasePlugin,
    BaseScopedAgent,
    BaseSpecializedAgent,
    PluginMetadata,
    PluginRegistry,
    UvTool,
    uvtool,
)

MakePlugin = Callable[..., type[BasePlugin]]


@uvtool
def echo(text: str) -> str:
    """Say it again."""
    return text


class EchoAgent(BaseAgent):
    def get_tools(self) -> list[UvTool]:
        return [echo]


class TicketAgent(BaseSpecializedAgent, BaseScopedAgent):
    def get_tools(self) -> list[UvTool]:
        return [echo]

    def get_system_prompt(self) -> str:
        return "You know tickets."

    async def load_anchor(self, resource_id: str) -> dict[str, Any]:
        return {"id": resource_id} if resource_id == "T-1" else {}

    def build_scope_rules(self, context: dict[str, Any]) -> str:
        return f"Only ticket {context['id']}."


@pytest.fixture
def make_plugin() -> MakePlugin:
    """A plugin class: `agent` is what `create_agent` calls, `methods` replace others, the rest is metadata."""

    def make(agent: Any = EchoAgent, methods: dict[str, Any] | None = None, **fields: Any) -> type[BasePlugin]:
        known = {"pid": "com.test.echo", "name": "Echo", "version": "1.0.0", "description": "Says it again", **fields}
        members = {
            "get_metadata": staticmethod(lambda: PluginMetadata(**known)),
            "create_agent": staticmethod(lambda: agent()),
            **{name: staticmethod(method) for name, method in (methods or {}).items()},
        }
        return type("MadePlugin", (BasePlugin,), members)  # type: ignore[return-value]  # a subclass of it

    return make


@pytest.fixture
def echo_plugin(make_plugin: MakePlugin) -> type[BasePlugin]:
    return make_plugin(capabilities=["echo"])


@pytest.fixture
def ticket_plugin(make_plugin: MakePlugin) -> type[BasePlugin]:
    """Its agent is specialized and scoped at once."""
    return make_plugin(TicketAgent, pid="com.test.ticket")


@pytest.fixture
def registry() -> PluginRegistry:
    return PluginRegistry()
