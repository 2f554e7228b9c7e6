"""Functions as tools, and their arguments."""

import contextvars
import functools
import inspect
import threading
from typing import Annotated, Any

import pytest
from cadence_sdk import UvTool, uvtool
from cadence_sdk.types.tool_arguments import arguments_model, arguments_schema, bound_arguments
from pydantic import BaseModel, Field, ValidationError


@uvtool
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    More about it.
    """
    return a + b


@uvtool
async def fetch(url: str) -> str:
    return f"<{url}>"


def test_a_bare_decorator_takes_name_and_description_from_the_function() -> None:
    assert isinstance(add, UvTool)
    assert (add.name, add.description) == ("add", "Add two numbers.")
    assert (add.args_schema, add.metadata, add.required_validate, add.stream_tool) == (None, {}, False, False)
    assert (add.__name__, str(inspect.signature(add))) == ("add", "(a: int, b: int = 2) -> int")


def test_a_function_without_docstring_is_described_by_its_name() -> None:
    assert fetch.description == "Tool: fetch"


def test_every_option_of_the_decorator_reaches_the_tool() -> None:
    class Arguments(BaseModel):
        x: int

    @uvtool(
        name="other",
        description="Does things",
        args_schema=Arguments,
        stream=True,
        stream_filter=len,
        validate=True,
        cache=True,
    )
    def function(x: int) -> list[int]:
        return [x]

    assert (function.name, function.description, function.args_schema) == ("other", "Does things", Arguments)
    assert (function.stream_tool, function.stream_filter, function.required_validate) == (True, len, True)
    assert function.metadata == {"cache": True}


async def test_sync_tools_run_by_all_three_ways() -> None:
    assert add(1, b=3) == add.invoke(1, 3) == await add.ainvoke(1, 3) == 4


async def test_a_sync_tool_is_awaited_in_a_thread_with_the_callers_context() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    who.set("me")
    tool = uvtool(lambda: (threading.current_thread(), who.get()))

    thread, name = await tool.ainvoke()

    assert thread is not threading.main_thread()
    assert name == "me"


async def test_an_async_tool_can_only_be_awaited() -> None:
    assert fetch.is_async
    assert await fetch.ainvoke(url="u") == "<u>"
    for call in (fetch, fetch.invoke):
        with pytest.raises(RuntimeError, match="Use ainvoke"):
            call("u")


async def test_partials_and_callable_objects_count_as_async_when_they_are() -> None:
    class Callable:
        async def __call__(self, x: int) -> int:
            return x

    assert UvTool("t", "d", functools.partial(fetch.func, "u")).is_async
    assert await UvTool("t", "d", Callable()).ainvoke(3) == 3


def test_arguments_come_from_the_signature() -> None:
    schema = arguments_schema(add)

    assert schema["required"] == ["a"]
    assert {name: p["type"] for name, p in schema["properties"].items()} == {"a": "integer", "b": "integer"}
    assert bound_arguments(add, arguments_model(add), {"a": "1"}) == {"a": 1, "b": 2}


@pytest.mark.parametrize("arguments", [{}, {"a": "x"}, {"a": 1, "c": 2}])
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        bound_arguments(add, arguments_model(add), arguments)


def test_descriptions_and_bounds_of_annotations_reach_the_schema() -> None:
    @uvtool
    def search(query: Annotated[str, Field(description="What to look for", max_length=5)]) -> str:
        return query

    assert arguments_schema(search)["properties"]["query"]["description"] == "What to look for"
    with pytest.raises(ValidationError):
        bound_arguments(search, arguments_model(search), {"query": "too long"})


def test_a_schema_gives_nested_models_as_models_and_only_what_the_function_takes() -> None:
    class Term(BaseModel):
        text: str

    class Arguments(BaseModel):
        terms: list[Term]
        reason: str = "not passed on"

    @uvtool(args_schema=Arguments)
    def search(terms: list[Term]) -> str:
        return terms[0].text

    bound = bound_arguments(search, arguments_model(search), {"terms": [{"text": "a"}]})

    assert search(**bound) == "a"


def test_a_function_that_takes_anything_gets_everything() -> None:
    @uvtool
    def anything(a: int, **more: Any) -> dict[str, Any]:
        return {"a": a, **more}

    assert anything(**bound_arguments(anything, arguments_model(anything), {"a": 1, "z": 2})) == {"a": 1, "z": 2}


async def test_a_tool_can_be_made_without_the_decorator_in_the_published_order() -> None:
    class Arguments(BaseModel):
        x: int

    tool = UvTool("double", "Doubles", lambda x: 2 * x, Arguments, {"cache": True}, True, True, len)

    assert (tool.name, tool.description, tool.args_schema, tool.metadata) == (
        "double",
        "Doubles",
        Arguments,
        {"cache": True},
    )
    assert (tool.required_validate, tool.stream_tool, tool.stream_filter) == (True, True, len)
    assert await tool.ainvoke(x=4) == 8
    plain = UvTool("double", "Doubles", lambda x: 2 * x)
    assert (plain.args_schema, plain.metadata, plain.required_validate, plain.stream_tool) == (None, {}, False, False)
    assert plain.stream_filter is None


def test_a_given_name_describes_a_tool_without_docstring() -> None:
    tool = uvtool(name="other")(lambda: None)

    assert (tool.name, tool.description) == ("other", "Tool: other")
