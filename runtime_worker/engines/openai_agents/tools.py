"""The tools of an instance as function tools of the Agents SDK, and the round of calls they belong to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from agents import FunctionTool, Tool, ToolErrorFormatterArgs
from agents.tool_context import ToolContext

from runtime_worker.models.base import ModelTool

Contents = Mapping[str, str]
"""What calls brought, by call id."""


class OpenRound:
    """The calls of one answer. The SDK invokes them one by one, and they run together: hop limits, events and the order
    of calls are matters of a whole round. Whoever is invoked first starts it; what nobody needs never runs.
    """

    def __init__(self, work: Callable[[], Awaitable[Contents]]) -> None:
        self._work = work
        self._running: asyncio.Future[Contents] | None = None

    async def contents(self) -> Contents:
        if self._running is None:
            self._running = asyncio.ensure_future(self._work())
        # Shielded: the SDK may drop one call of many, and it does not wait for those it cancels. `close` does.
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """End what still runs, and return when it has ended."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})


class ToolUser(Protocol):
    """What of a run's context a tool has to do with."""

    @property
    def round(self) -> OpenRound: ...


def function_tools(offered: Sequence[ModelTool]) -> list[Tool]:
    """One function tool each. They hold nothing of a run: what a call does is up to the context it comes with."""
    return [
        FunctionTool(
            name=tool.name,
            description=tool.description,
            params_json_schema=tool.parameters,
            on_invoke_tool=_invoke,
            # Plugins write their own schemas; the strict form would make every argument a required one.
            strict_json_schema=False,
        )
        for tool in offered
    ]


async def tell_of_missing_tool(problem: ToolErrorFormatterArgs[ToolUser]) -> str | None:
    """What a model hears that called a tool which does not exist: the same as in every engine, from its round."""
    if problem.kind != "tool_not_found":
        return None
    return (await problem.run_context.context.round.contents()).get(problem.call_id)


async def _invoke(context: ToolContext[ToolUser], arguments: str) -> str:
    return (await context.context.round.contents()).get(context.tool_call_id, NOT_CALLED)


NOT_CALLED = "Error: not called"
"""For a call whose round failed as a whole; no model reads it, because the run goes another way then."""
