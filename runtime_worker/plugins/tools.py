"""Calling one tool of a plugin: arguments checked before, a deadline around, a bounded and plain result after.

Nothing a tool does gets out of here as an exception. The model reads a sentence about what went wrong; what an author
put into an exception may hold a key or a customer's data, so its text goes to nobody and the log gets type and place.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Coroutine
from typing import Any

from cadence_sdk import UvTool
from cadence_sdk.types.sdk_tools import is_async_callable
from cadence_sdk.types.tool_arguments import arguments_model, bound_arguments
from pydantic import BaseModel, ValidationError

from runtime_worker.plugins.base import PluginTool, ToolOutcome
from runtime_worker.plugins.results import as_text, capped
from runtime_worker.plugins.threads import PluginThreads
from shared.logging import get_logger

log = get_logger(__name__)


class ToolExit(Exception):
    """A tool raised SystemExit, KeyboardInterrupt or the like, which as itself would end the worker."""


class CallableTool:
    """A tool with its argument model made once."""

    def __init__(self, pid: str, tool: UvTool, threads: PluginThreads) -> None:
        self._tool = tool
        self._threads = threads
        self._model: type[BaseModel] = arguments_model(tool)
        self._abandoned: set[asyncio.Task[Any]] = set()
        self.description = PluginTool(
            pid=pid,
            name=tool.name,
            description=tool.description,
            parameters=self._model.model_json_schema(),
            streams=tool.stream_tool,
            needs_validation=tool.required_validate,
        )

    async def call(self, arguments: dict[str, Any], *, timeout_seconds: float) -> ToolOutcome:
        """Never raises, unless the caller is cancelled."""
        try:
            checked = bound_arguments(self._tool, self._model, arguments)
        except ValidationError as error:
            return _failed(f"The arguments of {self._tool.name} are not valid: {_explained(error)}")
        except Exception as error:
            # A validator of the author's raised something of its own.
            self._log("tool_arguments_failed", error)
            return _failed(f"The arguments of {self._tool.name} could not be checked.")
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            result = await self._within(deadline, self._run(checked))
            outcome = ToolOutcome(as_text(result), None)
        except TimeoutError:
            self._log("tool_timed_out", None)
            return _failed(f"The tool {self._tool.name} did not answer within {timeout_seconds:g} seconds.")
        except Exception as error:
            self._log("tool_failed", error)
            return _failed(f"The tool {self._tool.name} failed.")
        return ToolOutcome(outcome.content, await self._shown(result, deadline))

    async def _run(self, arguments: dict[str, Any]) -> Any:
        try:
            return await self._invoke(self._tool.func, is_async=self._tool.is_async, **arguments)
        except TimeoutError as error:
            # The tool's own, not our deadline's.
            raise RuntimeError("TimeoutError") from error

    async def _shown(self, result: Any, deadline: float) -> Any:
        """The part of a result that a client may see. A filter that fails shows nothing rather than everything."""
        chosen = self._tool.stream_filter
        try:
            if chosen is not None:
                result = await self._within(deadline, self._invoke(chosen, result, is_async=is_async_callable(chosen)))
            return capped(result)
        except Exception as error:
            self._log("stream_filter_failed", error)
            return None

    async def _invoke(self, function: Any, *args: Any, is_async: bool, **kwargs: Any) -> Any:
        """Await an async function on the loop, run a sync one in a thread; exits become ordinary errors."""
        try:
            if is_async:
                return await function(*args, **kwargs)
            result = await self._threads.run(lambda: function(*args, **kwargs))
            return await result if isinstance(result, Awaitable) else result
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            raise ToolExit(type(error).__name__) from error

    async def _within(self, deadline: float, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of `work`. Raises TimeoutError at the deadline, whether or not `work` obeys its cancellation."""
        task = asyncio.create_task(work)
        try:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({task}, timeout=max(left, 0.0))
            if not task.done():
                raise TimeoutError
            if task.cancelled():
                raise ToolExit("CancelledError")
            return task.result()
        finally:
            if not task.done():
                # Kept until it ends: a task nobody holds may be collected in the middle.
                self._abandoned.add(task)
                task.add_done_callback(self._let_go)
                task.cancel()

    def _let_go(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as forgotten

    def _log(self, event: str, error: BaseException | None) -> None:
        fields: dict[str, Any] = {"pid": self.description.pid, "tool": self._tool.name}
        if error is not None:
            fields |= {"error": type(error).__name__, "place": place_of(error)}
        log.warning(event, **fields)


def place_of(error: BaseException) -> str:
    """File and line where an exception was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _failed(message: str) -> ToolOutcome:
    return ToolOutcome(message, message, is_error=True)


def _explained(error: ValidationError) -> str:
    """Each field and what is wrong with it, for the model to do better."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
