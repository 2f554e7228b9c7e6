"""A tool may do anything; the call always comes to an outcome, and the loop goes on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from runtime_worker.plugins.base import ToolOutcome
from runtime_worker.plugins.in_process import InProcessBundle
from shared.plugin_host.results import MAX_RESULT_CHARS
from shared.plugin_host.threads import THREADS_PER_BUNDLE
from tests.unit.plugins.conftest import LoadPlugin

SECRET = "canary-0815"
TOOLS = f"""
import asyncio, sys, threading, time
from pydantic import BaseModel

class Place(BaseModel):
    city: str

@uvtool
def add(a: int, b: int = 1) -> int:
    '''Add two numbers.'''
    return a + b

@uvtool
async def fetch(city: str) -> dict:
    await asyncio.sleep(0)
    return {{"city": city, "place": Place(city=city), "when": time}}

@uvtool
def raises() -> str:
    raise ValueError("{SECRET}")

@uvtool
async def times_out_itself() -> str:
    raise TimeoutError("{SECRET}")

@uvtool
def stops() -> str:
    return next(iter([]))

@uvtool
def exits() -> str:
    sys.exit(1)

@uvtool
async def exits_async() -> str:
    sys.exit(1)

@uvtool
async def cancels() -> str:
    raise asyncio.CancelledError

hanging = threading.Event()

@uvtool
def hangs() -> str:
    hanging.wait()
    return "late"

@uvtool
async def hangs_async() -> str:
    await asyncio.Event().wait()
    return "late"

@uvtool
async def stubborn() -> str:
    while not hanging.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
    return "late"

@uvtool
def much(n: int) -> str:
    return "x" * n

@uvtool
async def release() -> str:
    hanging.set()
    return "released"

@uvtool(stream=True, stream_filter=lambda result: [item["url"] for item in result])
def search() -> list:
    return [{{"url": "u", "score": 1}}]

@uvtool(stream_filter=lambda result: result["nothing"])
def bad_filter() -> dict:
    return {{"url": "u"}}
"""
NAMES = (
    "add, fetch, raises, times_out_itself, stops, exits, exits_async, cancels, hangs, hangs_async, stubborn, much, "
    "release, search, bad_filter"
)


@pytest.fixture
async def bundle(load: LoadPlugin) -> AsyncIterator[InProcessBundle]:
    bundle = await load(tools=TOOLS, tool_names=NAMES)
    yield bundle
    # Whatever hangs is let go, so that the test process has no stray threads.
    await bundle.call("release", {}, timeout_seconds=5)


async def call(bundle: InProcessBundle, tool: str, timeout_seconds: float = 5.0, **arguments: Any) -> ToolOutcome:
    return await bundle.call(tool, arguments, timeout_seconds=timeout_seconds)


async def test_sync_and_async_tools_answer(bundle: InProcessBundle) -> None:
    added, fetched = await call(bundle, "add", a=2), await call(bundle, "fetch", city="Bonn")

    assert (added.content, added.shown, added.is_error) == ("3", 3, False)
    assert fetched.shown["place"] == {"city": "Bonn"}
    assert fetched.content.startswith('{"city":"Bonn","place":{"city":"Bonn"}')


async def test_tools_are_described_for_a_model(bundle: InProcessBundle) -> None:
    add, *_, search, _ = bundle.tools

    assert (add.pid, add.name, add.description, add.streams) == ("com.acme.calc", "add", "Add two numbers.", False)
    assert add.parameters["required"] == ["a"]
    assert search.streams


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({}, "a: Field required"), ({"a": "x"}, "a: Input should be a valid integer"), ({"a": 1, "c": 1}, "c: Extra")],
)
async def test_bad_arguments_never_reach_the_tool(
    bundle: InProcessBundle, arguments: dict[str, Any], reason: str
) -> None:
    outcome = await call(bundle, "add", **arguments)

    assert outcome.is_error
    assert reason in outcome.content


@pytest.mark.parametrize(
    "tool", ["raises", "times_out_itself", "stops", "exits", "exits_async", "cancels", "no_such_tool"]
)
async def test_whatever_a_tool_raises_is_an_outcome_without_internals(bundle: InProcessBundle, tool: str) -> None:
    with structlog.testing.capture_logs() as logs:
        outcome = await call(bundle, tool)

    assert outcome.is_error
    assert tool in outcome.content
    assert SECRET not in f"{outcome.content}{outcome.shown}{logs}"


async def test_a_tool_that_raises_is_logged_with_type_and_place(bundle: InProcessBundle) -> None:
    with structlog.testing.capture_logs() as logs:
        await call(bundle, "raises")

    (entry,) = logs
    assert (entry["event"], entry["pid"], entry["tool"], entry["error"]) == (
        "tool_failed",
        "com.acme.calc",
        "raises",
        "ValueError",
    )
    assert "plugin.py" in entry["place"]


@pytest.mark.parametrize("tool", ["hangs", "hangs_async", "stubborn"])
async def test_a_tool_that_hangs_is_given_up_at_its_deadline(bundle: InProcessBundle, tool: str) -> None:
    outcome = await call(bundle, tool, timeout_seconds=0.05)

    assert outcome.is_error
    assert "did not answer within 0.05 seconds" in outcome.content


async def test_a_hanging_sync_tool_does_not_block_the_others(bundle: InProcessBundle) -> None:
    waiting = asyncio.create_task(call(bundle, "hangs"))

    assert (await call(bundle, "add", a=1)).content == "2"
    await call(bundle, "release")
    assert (await waiting).content == "late"


async def test_hanging_tools_cost_their_own_plugin_its_threads_and_no_other(
    bundle: InProcessBundle, load: LoadPlugin
) -> None:
    other = await load(pid="com.acme.other")
    await asyncio.gather(*[call(bundle, "hangs", timeout_seconds=0.05) for _ in range(THREADS_PER_BUNDLE)])

    assert (await call(bundle, "add", timeout_seconds=0.05, a=1)).is_error
    assert (await call(bundle, "fetch", city="Bonn")).is_error is False
    assert (await call(other, "add", a=1, b=1)).content == "2"
    await call(bundle, "release")
    assert (await call(bundle, "add", a=1)).content == "2"


async def test_cancelling_the_caller_ends_an_async_tool(bundle: InProcessBundle) -> None:
    waiting = asyncio.create_task(call(bundle, "hangs_async"))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_too_long_a_result_is_cut_with_a_note(bundle: InProcessBundle) -> None:
    fits = await call(bundle, "much", n=MAX_RESULT_CHARS)
    cut = await call(bundle, "much", n=MAX_RESULT_CHARS + 1)

    assert fits.content == "x" * MAX_RESULT_CHARS
    assert cut.content.startswith(fits.content)
    assert "truncated" in cut.content
    assert len(cut.shown) < MAX_RESULT_CHARS + 200


async def test_a_filter_decides_what_is_shown_and_not_what_the_model_gets(bundle: InProcessBundle) -> None:
    outcome = await call(bundle, "search")

    assert outcome.shown == ["u"]
    assert outcome.content == '[{"url":"u","score":1}]'


async def test_a_filter_that_fails_shows_nothing(bundle: InProcessBundle) -> None:
    outcome = await call(bundle, "bad_filter")

    assert (outcome.is_error, outcome.shown, outcome.content) == (False, None, '{"url":"u"}')
