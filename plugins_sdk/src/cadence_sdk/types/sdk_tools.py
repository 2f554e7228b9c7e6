"""Functions that a model may call."""

import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, overload

from pydantic import BaseModel

StreamFilter = Callable[[Any], Any] | Callable[[Any], Awaitable[Any]]
"""Takes a tool's result and returns the part of it that the user may see; sync or async."""


class UvTool:
    """A function with what a model must know to call it.

    `stream_tool` shows the result to the user as it comes, after `stream_filter`; `required_validate` has a model check
    the result before it is used.
    """

    def __init__(
        self,
        name: str,
        description: str,
        func: Callable[..., Any],
        args_schema: type[BaseModel] | None = None,
        metadata: dict[str, Any] | None = None,
        required_validate: bool = False,
        stream_tool: bool = False,
        stream_filter: StreamFilter | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.func = func
        self.args_schema = args_schema
        self.metadata = metadata or {}
        self.required_validate = required_validate
        self.stream_tool = stream_tool
        self.stream_filter = stream_filter
        self.is_async = is_async_callable(func)
        # The tool introspects like its function. Not functools.update_wrapper: it would copy the function's __dict__
        # over ours, and __wrapped__ would make inspect look past us.
        self.__name__ = getattr(func, "__name__", name)
        self.__qualname__ = getattr(func, "__qualname__", name)
        self.__doc__ = func.__doc__
        self.__signature__ = inspect.signature(func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a sync tool. Raises RuntimeError for an async one."""
        if self.is_async:
            raise RuntimeError(f"Tool {self.name!r} is async. Use ainvoke() to call it")
        return self.func(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """The same as calling the tool."""
        return self(*args, **kwargs)

    async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
        """Await an async tool, or run a sync one in a thread with the caller's context variables."""
        if self.is_async:
            return await self.func(*args, **kwargs)
        # Whoever awaits has it already; what only looks at a plugin does without it, and begins sooner.
        import asyncio

        context = contextvars.copy_context()
        call = functools.partial(context.run, self.func, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(None, call)

    def __repr__(self) -> str:
        return f"<UvTool {self.name}{' async' if self.is_async else ''}>"


@overload
def uvtool(func: Callable[..., Any], /) -> UvTool: ...


@overload
def uvtool(
    func: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    args_schema: type[BaseModel] | None = None,
    stream: bool = False,
    stream_filter: StreamFilter | None = None,
    validate: bool = False,
    **metadata: Any,
) -> Callable[[Callable[..., Any]], UvTool]: ...


def uvtool(
    func: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    args_schema: type[BaseModel] | None = None,
    stream: bool = False,
    stream_filter: StreamFilter | None = None,
    validate: bool = False,
    **metadata: Any,
) -> UvTool | Callable[[Callable[..., Any]], UvTool]:
    """Make a function a tool, with or without parentheses.

    The name is the function's, the description the first line of its docstring, unless given. Further keywords go to
    `tool.metadata`.
    """

    def wrap(function: Callable[..., Any]) -> UvTool:
        tool_name = name or function.__name__
        return UvTool(
            name=tool_name,
            description=description or _first_line(function) or f"Tool: {tool_name}",
            func=function,
            args_schema=args_schema,
            metadata=dict(metadata),
            required_validate=validate,
            stream_tool=stream,
            stream_filter=stream_filter,
        )

    return wrap if func is None else wrap(func)


def is_async_callable(func: Any) -> bool:
    """Whether calling `func` gives something to await: a coroutine function, a partial of one, or an object whose
    `__call__` is one.
    """
    while isinstance(func, functools.partial):
        func = func.func
    return inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004 - the method itself is inspected


def _first_line(function: Callable[..., Any]) -> str:
    return next((line.strip() for line in (function.__doc__ or "").splitlines() if line.strip()), "")
