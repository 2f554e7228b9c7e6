import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from cadence_sdk.base.agent import BaseAgent, BaseScopedAgent, BaseSpecializedAgent
from cadence_sdk.base.metadata import PluginMetadata
from cadence_sdk.base.plugin import BasePlugin
from cadence_sdk.testing.errors import ArgumentsRefused, PluginRefused, ToolUnknown
from cadence_sdk.testing.settings import effective_settings
from cadence_sdk.types.sdk_tools import UvTool, is_async_callable
from cadence_sdk.types.tool_arguments import arguments_model, bound_arguments
from cadence_sdk.utils.validation import check_agent, validate_plugin_structure_shallow


class PluginHarness:
    """One initialized agent of a plugin, to be called as the platform calls it.

    Also an asynchronous context manager that runs the agent's `cleanup` at its end:

        async with PluginHarness(WeatherPlugin) as harness: ...

    Raises PluginRefused with what an upload would be refused for, SettingsRefused with what an admin could not save,
    and what `create_agent` and `initialize` raise.
    """

    def __init__(self, plugin_class: type[BasePlugin], settings: Mapping[str, Any] | None = None) -> None:
        is_valid, problems = validate_plugin_structure_shallow(plugin_class)
        if not is_valid:
            raise PluginRefused(problems)
        self.plugin_class = plugin_class
        self.settings: dict[str, Any] = effective_settings(plugin_class, settings)
        # A copy, so that an agent that changes its settings does not change what the test reads.
        self.agent: BaseAgent = _in_a_thread(lambda: _started(plugin_class, dict(self.settings)))
        found: list[str] = []
        tools = check_agent(self.agent, found)
        if found:
            raise PluginRefused(found)
        self.tools: dict[str, UvTool] = {tool.name: tool for tool in tools}
        self._models: dict[str, type[BaseModel]] = {tool.name: arguments_model(tool) for tool in tools}
        self._is_closed = False

    @property
    def metadata(self) -> PluginMetadata:
        return self.plugin_class.get_metadata()

    @property
    def system_prompt(self) -> str:
        """What a specialized agent says of itself; "" for the others."""
        return self.agent.get_system_prompt() if isinstance(self.agent, BaseSpecializedAgent) else ""

    def schema(self, tool_name: str) -> dict[str, Any]:
        """The JSON schema of a tool's arguments, as a model is shown it. Raises ToolUnknown."""
        return self._models[self._tool(tool_name).name].model_json_schema()

    async def call(self, tool_name: str, /, **arguments: Any) -> Any:
        """What the tool returns: awaited when it is async, run in a thread when it is not.

        The arguments are as a model sends them, JSON values, and are checked and converted first. Raises ToolUnknown,
        ArgumentsRefused, and whatever the tool raises.
        """
        tool = self._tool(tool_name)
        try:
            checked = bound_arguments(tool, self._models[tool.name], arguments)
        except ValidationError as error:
            raise ArgumentsRefused([_explained(tool.name, e) for e in error.errors()]) from error
        return await tool.ainvoke(**checked)

    async def call_and_show(self, tool_name: str, /, **arguments: Any) -> tuple[Any, Any]:
        """What the tool returns, and what of it the user sees: see `call` and `shown`."""
        result = await self.call(tool_name, **arguments)
        return result, await self.shown(tool_name, result)

    async def shown(self, tool_name: str, result: Any) -> Any:
        """What of a result the user sees: after the `stream_filter` if it has one; None when it does not stream.

        Raises ToolUnknown, and what the filter raises.
        """
        tool = self._tool(tool_name)
        if not tool.stream_tool:
            return None
        chosen: Callable[[Any], Any] | None = tool.stream_filter
        if chosen is None:
            return result
        shown = chosen(result)
        return await shown if is_async_callable(chosen) else shown

    async def load_anchor(self, resource_id: str) -> dict[str, Any]:
        """What a scoped agent knows of a resource; `{}` for one it does not know. Raises PluginRefused for other agents
        and for anything but a dict.
        """
        anchor: Any = await self._scoped().load_anchor(resource_id)
        if not isinstance(anchor, dict):
            raise PluginRefused([f"load_anchor() must return a dict, it returned {type(anchor).__name__}"])
        return anchor

    def build_scope_rules(self, context: dict[str, Any]) -> str:
        """What a conversation about `context` (an anchor) may be about. Raises PluginRefused, see `load_anchor`."""
        rules: Any = self._scoped().build_scope_rules(context)
        if not isinstance(rules, str):
            raise PluginRefused([f"build_scope_rules() must return text, it returned {type(rules).__name__}"])
        return rules

    async def cleanup(self) -> None:
        """Run the agent's `cleanup`, once however often it is asked for. Its tools cannot be called afterwards."""
        if not self._is_closed:
            self._is_closed = True
            await self.agent.cleanup()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cleanup()

    def _tool(self, name: str) -> UvTool:
        if self._is_closed:
            raise RuntimeError("the agent was cleaned up; nothing calls its tools any more")
        try:
            return self.tools[name]
        except KeyError:
            raise ToolUnknown([f"there is no tool {name!r}, there is: {', '.join(self.tools) or 'none'}"]) from None

    def _scoped(self) -> BaseScopedAgent:
        if not isinstance(self.agent, BaseScopedAgent):
            raise PluginRefused([f"{type(self.agent).__name__} is no BaseScopedAgent and has no anchors"])
        return self.agent


def _started(plugin_class: type[BasePlugin], settings: dict[str, Any]) -> BaseAgent:
    agent: Any = plugin_class.create_agent()
    if not isinstance(agent, BaseAgent):
        raise PluginRefused([f"create_agent() must return a BaseAgent, it returned {type(agent).__name__}"])
    agent.initialize(settings)
    return agent


def _in_a_thread(start: Callable[[], BaseAgent]) -> BaseAgent:
    """As on the platform: no event loop runs where an agent is initialized."""
    outcome: list[BaseAgent | BaseException] = []

    def work() -> None:
        try:
            outcome.append(start())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="initialize")
    thread.start()
    thread.join()
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _explained(tool_name: str, problem: Any) -> str:
    place = ".".join(map(str, problem["loc"])) or "arguments"
    return f"{tool_name}: {place}: {problem['msg']}"
