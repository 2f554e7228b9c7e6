"""A plugin brought to life: its modules, its agent, its tools. The same in a host and, if trusted, in a worker."""

from typing import Any

import msgspec
from cadence_sdk import BaseAgent, BaseScopedAgent, BaseSpecializedAgent

from shared.packages.contents import find_plugin_class
from shared.packages.modules import PackageModules
from shared.plugin_host.messages import PluginTool, ToolOutcome
from shared.plugin_host.results import plain
from shared.plugin_host.threads import PluginThreads
from shared.plugin_host.tools import CallableTool, Tell, failed, invoke, no_such_tool, place_of


class NoPluginClass(Exception):
    """`plugin.py` has no concrete subclass of BasePlugin."""


class RunningAgent:
    """Runs what a worker asks for. Its methods never raise for what the plugin does, unless the caller is cancelled."""

    def __init__(self, agent: BaseAgent, pid: str, threads: PluginThreads, tell: Tell) -> None:
        self.agent = agent
        self._threads = threads
        self._tell = tell
        tools = [CallableTool(pid, tool, threads, tell) for tool in agent.get_tools()]
        self._tools = {tool.description.name: tool for tool in tools}
        self.tools: tuple[PluginTool, ...] = tuple(tool.description for tool in tools)
        self.system_prompt = str(agent.get_system_prompt()) if isinstance(agent, BaseSpecializedAgent) else ""
        self.is_scoped = isinstance(agent, BaseScopedAgent)

    async def call(self, tool: str, arguments: dict[str, Any]) -> ToolOutcome:
        found = self._tools.get(tool)
        return await found.call(arguments) if found else no_such_tool(tool)

    async def load_anchor(self, resource_id: str, *, with_rules: bool) -> ToolOutcome:
        """`shown` is what the agent knows of the resource, `content` its rules, if they are wanted."""
        agent = self.agent
        if not isinstance(agent, BaseScopedAgent):
            return failed("The plugin has no anchors.")
        try:
            anchor = await invoke(self._threads, agent.load_anchor, resource_id, is_async=True)
            if not isinstance(anchor, dict):
                raise TypeError("load_anchor must return a dict")
            loaded = plain(anchor)
        except Exception as error:
            self._tell("load_anchor_failed", {"error": type(error).__name__, "place": place_of(error)})
            return failed("The resource could not be loaded.")
        rules = await self.build_scope_rules(loaded) if with_rules and loaded else ToolOutcome("", None)
        return rules if rules.is_error else ToolOutcome(rules.content, loaded)

    async def build_scope_rules(self, context: dict[str, Any]) -> ToolOutcome:
        """`content` is the rules."""
        agent = self.agent
        if not isinstance(agent, BaseScopedAgent):
            return failed("The plugin has no scope rules.")
        try:
            rules = await invoke(self._threads, agent.build_scope_rules, context, is_async=False)
            return ToolOutcome(str(rules), None)
        except Exception as error:
            self._tell("scope_rules_failed", {"error": type(error).__name__, "place": place_of(error)})
            return failed("The scope rules could not be built.")


def start_agent(
    modules: PackageModules, pid: str, settings: dict[str, Any], threads: PluginThreads, tell: Tell
) -> RunningAgent:
    """All of it is the author's code: it may raise anything, take long, or never return. Raises NoPluginClass."""
    plugin_class = find_plugin_class(modules.load(), modules)
    if plugin_class is None:
        raise NoPluginClass
    agent = plugin_class.create_agent()
    agent.initialize(msgspec.to_builtins(settings))
    return RunningAgent(agent, pid, threads, tell)
