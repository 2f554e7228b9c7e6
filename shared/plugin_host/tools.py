"""Calling one tool of a plugin: arguments checked before, a bounded and plain result after.

Nothing a tool does gets out of here as an exception. The model reads a sentence about what went wrong; what an author
put into an exception may hold a key or a customer's data, so its text goes to nobody and the log gets type and place.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from cadence_sdk import UvTool
from cadence_sdk.types.sdk_tools import is_async_callable
from cadence_sdk.types.tool_arguments import arguments_model, bound_arguments
from pydantic import BaseModel, ValidationError

from shared.plugin_host.messages import PluginTool, ToolOutcome
from shared.plugin_host.results import as_text, capped
from shared.plugin_host.threads import PluginThreads

Tell = Callable[[str, dict[str, str]], None]
"""Takes the name of an event and its fields, for the log."""


class ToolExit(Exception):
    """A tool raised SystemExit, KeyboardInterrupt or the like, which as itself would end the process."""


class CallableTool:
    """A tool with its argument model made once."""

    def __init__(self, pid: str, tool: UvTool, threads: PluginThreads, tell: Tell) -> None:
        self._tool = tool
        self._threads = threads
        self._tell = tell
        self._model: type[BaseModel] = arguments_model(tool)
        self.description = PluginTool(
            pid=pid,
            name=tool.name,
            description=tool.description,
            parameters=self._model.model_json_schema(),
            streams=tool.stream_tool,
            needs_validation=tool.required_validate,
        )

    async def call(self, arguments: dict[str, Any]) -> ToolOutcome:
        """Run it to its end, however long that takes. Never raises, unless the caller is cancelled."""
        name = self._tool.name
        try:
            checked = bound_arguments(self._tool, self._model, arguments)
        except ValidationError as error:
            return failed(f"The arguments of {name} are not valid: {_explained(error)}")
        except Exception as error:
            # A validator of the author's raised something of its own.
            self._log("tool_arguments_failed", error)
            return failed(f"The arguments of {name} could not be checked.")
        try:
            result = await invoke(self._threads, self._tool.func, is_async=self._tool.is_async, **checked)
            content = as_text(result)
        except Exception as error:
            self._log("tool_failed", error)
            return failed(f"The tool {name} failed.")
        return ToolOutcome(content, await self._shown(result))

    async def _shown(self, result: Any) -> Any:
        """The part of a result that a client may see. A filter that fails shows nothing rather than everything."""
        chosen = self._tool.stream_filter
        try:
            if chosen is not None:
                result = await invoke(self._threads, chosen, result, is_async=is_async_callable(chosen))
            return capped(result)
        except Exception as error:
            self._log("stream_filter_failed", error)
            return None

    def _log(self, event: str, error: BaseException) -> None:
        self._tell(event, {"tool": self._tool.name, "error": type(error).__name__, "place": place_of(error)})


async def invoke(threads: PluginThreads, function: Any, *args: Any, is_async: bool, **kwargs: Any) -> Any:
    """Await an async function on the loop, run a sync one in a thread; exits become ordinary errors."""
    try:
        if is_async:
            return await function(*args, **kwargs)
        result = await threads.run(lambda: function(*args, **kwargs))
        return await result if isinstance(result, Awaitable) else result
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise ToolExit(type(error).__name__) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Raised by the tool itself: nobody cancelled anything.
        raise ToolExit("CancelledError") from error


def place_of(error: BaseException) -> str:
    """File and line where an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def failed(message: str) -> ToolOutcome:
    return ToolOutcome(message, message, is_error=True)


def no_such_tool(name: str) -> ToolOutcome:
    return failed(f"There is no tool {name[:100]!r}.")


def _explained(error: ValidationError) -> str:
    """Each field and what is wrong with it, for the model to do better."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
