"""A plugin bundle made of plain functions: the real port, without a package."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from runtime_worker.plugins.base import Anchor, PluginTool, ToolOutcome

ToolFunction = Callable[..., Any] | Callable[..., Awaitable[Any]]
_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


class FunctionBundle:
    """Each function is a tool: its name, docstring and annotations are the description. `calls` is what was called."""

    def __init__(
        self,
        pid: str,
        *functions: ToolFunction,
        description: str = "",
        system_prompt: str = "",
        validated: tuple[str, ...] = (),
    ) -> None:
        self.pid = pid
        self.version = "1.0.0"
        self.description = description or f"The plugin {pid}."
        self.system_prompt = system_prompt
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.is_closed = False
        self.resident_bytes = 0
        self._functions = {function.__name__: function for function in functions}
        self.tools = tuple(self._described(f, needs_validation=f.__name__ in validated) for f in functions)

    async def call(self, tool: str, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        self.calls.append((tool, arguments))
        function = self._functions[tool]
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            return ToolOutcome(f"bad arguments: {error}", None, is_error=True)
        try:
            async with asyncio.timeout(timeout_seconds):
                result = function(**arguments)
                if inspect.isawaitable(result):
                    result = await result
        except TimeoutError:
            return ToolOutcome("the tool took too long", None, is_error=True)
        except ArithmeticError as error:
            return ToolOutcome(f"the tool failed: {error}", None, is_error=True)
        return ToolOutcome(str(result), result)

    async def close(self) -> None:
        self.is_closed = True

    def _described(self, function: ToolFunction, *, needs_validation: bool) -> PluginTool:
        parameters = inspect.signature(function).parameters
        schema = {
            "type": "object",
            "properties": {name: {"type": _JSON_TYPES.get(p.annotation, "string")} for name, p in parameters.items()},
            "required": list(parameters),
        }
        description = inspect.getdoc(function) or function.__name__
        return PluginTool(self.pid, function.__name__, description, schema, needs_validation=needs_validation)


class ScopedFunctionBundle(FunctionBundle):
    """One whose agent is scoped: it knows `resources` by id. `loads` is what was asked for."""

    is_scoped = True

    def __init__(
        self, pid: str, *functions: ToolFunction, resources: dict[str, dict[str, Any]], rules: str = "", **rest: Any
    ) -> None:
        super().__init__(pid, *functions, **rest)
        self.resources = resources
        self.rules = rules
        self.loads: list[str] = []

    async def load_anchor(self, resource_id: str, *, with_rules: bool, timeout_seconds: float) -> Anchor:
        self.loads.append(resource_id)
        context = self.resources.get(resource_id, {})
        rules = await self.build_scope_rules(context, timeout_seconds=timeout_seconds) if with_rules and context else ""
        return Anchor(context, rules)

    async def build_scope_rules(self, context: dict[str, Any], *, timeout_seconds: float) -> str:
        return self.rules or f"Only {context.get('name', 'the resource')}."
