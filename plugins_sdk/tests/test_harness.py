"""The harness: a plugin driven as the platform drives it."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from cadence_sdk import BaseAgent, BasePlugin, UvTool, plugin_settings, uvtool
from cadence_sdk.testing import (
    ArgumentsRefused,
    PluginHarness,
    PluginRefused,
    SettingsRefused,
    ToolUnknown,
    effective_settings,
    load_plugin,
)

MakePlugin = Any

SETTINGS: list[dict[str, Any]] = [
    {"key": "token", "type": "str", "description": "A token", "required": True, "sensitive": True},
    {"key": "limit", "type": "int", "description": "A number", "default": 3},
    {"key": "note", "type": "str", "description": "A note"},
]


class Recorder(BaseAgent):
    """Remembers what happened to it."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.had_loop = False
        self.thread_name = ""
        self.cleanups = 0

    def initialize(self, config: dict[str, Any]) -> None:
        self.config = config
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        self.had_loop = True

    def get_tools(self) -> list[UvTool]:
        @uvtool
        def double(number: int, times: int = 1) -> int:
            """Double a number."""
            self.thread_name = threading.current_thread().name
            return number * (1 << times)

        async def first_key(result: dict[str, int]) -> list[str]:
            return list(result)[:1]

        @uvtool(stream=True, stream_filter=first_key)
        async def two_keys() -> dict[str, int]:
            return {"open": 1, "hidden": 2}

        @uvtool(stream=True)
        async def all_shown() -> str:
            return "all"

        @uvtool(stream_filter=len)
        def raising() -> str:
            raise LookupError("boom")

        return [double, two_keys, all_shown, raising]

    async def cleanup(self) -> None:
        self.cleanups += 1


@pytest.fixture
def recording_plugin(make_plugin: MakePlugin) -> type[BasePlugin]:
    plugin: type[BasePlugin] = plugin_settings(SETTINGS)(make_plugin(Recorder))
    return plugin


@pytest.fixture
def harness(recording_plugin: type[BasePlugin]) -> PluginHarness:
    return PluginHarness(recording_plugin, {"token": "t"})


async def test_a_tool_gets_checked_and_converted_arguments_in_a_thread(harness: PluginHarness) -> None:
    assert await harness.call("double", number="4", times=2) == 16

    assert isinstance(harness.agent, Recorder)
    assert harness.agent.thread_name != threading.current_thread().name
    assert harness.schema("double")["required"] == ["number"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "double: number: Field required"),
        ({"number": "x"}, "double: number: Input should be"),
        ({"number": 1, "other": 2}, "double: other: Extra inputs"),
    ],
)
async def test_arguments_that_do_not_fit_never_reach_the_tool(
    harness: PluginHarness, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ArgumentsRefused, match=problem):
        await harness.call("double", **arguments)


async def test_what_a_tool_raises_comes_out_as_it_is(harness: PluginHarness) -> None:
    with pytest.raises(LookupError, match="boom"):
        await harness.call("raising")


async def test_a_tool_that_is_not_there_is_said_to_be_none(harness: PluginHarness) -> None:
    with pytest.raises(ToolUnknown, match=r"no tool 'treble', there is: double, two_keys"):
        await harness.call("treble")


async def test_users_see_what_the_filter_leaves_and_nothing_of_tools_that_do_not_stream(harness: PluginHarness) -> None:
    assert await harness.call_and_show("two_keys") == ({"open": 1, "hidden": 2}, ["open"])
    assert await harness.call_and_show("all_shown") == ("all", "all")
    assert await harness.call_and_show("double", number=1) == (2, None)


def test_an_agent_is_initialized_with_defaults_filled_in(harness: PluginHarness) -> None:
    assert isinstance(harness.agent, Recorder)
    assert harness.agent.config == harness.settings == {"token": "t", "limit": 3}


async def test_no_event_loop_runs_where_an_agent_is_initialized(recording_plugin: type[BasePlugin]) -> None:
    agent = PluginHarness(recording_plugin, {"token": "t"}).agent

    assert isinstance(agent, Recorder)
    assert not agent.had_loop


def test_settings_are_refused_with_all_that_is_wrong(recording_plugin: type[BasePlugin]) -> None:
    with pytest.raises(SettingsRefused) as refused:
        PluginHarness(recording_plugin, {"limit": True, "nope": 1})

    assert refused.value.problems == [
        "there is no setting 'nope'",
        "the setting 'limit' must be of type int, True is not",
        "the setting 'token' is required and has no value",
    ]


def test_none_goes_back_to_the_default(recording_plugin: type[BasePlugin]) -> None:
    assert effective_settings(recording_plugin, {"token": "t", "limit": None}) == {"token": "t", "limit": 3}


async def test_cleanup_runs_once_and_ends_the_calls(recording_plugin: type[BasePlugin]) -> None:
    async with PluginHarness(recording_plugin, {"token": "t"}) as harness:
        await harness.call("double", number=1)
    await harness.cleanup()

    assert isinstance(harness.agent, Recorder)
    assert harness.agent.cleanups == 1
    with pytest.raises(RuntimeError, match="cleaned up"):
        await harness.call("double", number=1)


async def test_anchors_rules_and_prompt_of_an_agent_that_is_scoped_and_specialized(
    ticket_plugin: type[BasePlugin],
) -> None:
    harness = PluginHarness(ticket_plugin)

    anchor = await harness.load_anchor("T-1")
    assert harness.build_scope_rules(anchor) == "Only ticket T-1."
    assert await harness.load_anchor("T-2") == {}
    assert harness.system_prompt == "You know tickets."


async def test_an_agent_without_a_scope_has_no_anchors(echo_plugin: type[BasePlugin]) -> None:
    harness = PluginHarness(echo_plugin)

    assert harness.system_prompt == ""
    with pytest.raises(PluginRefused, match="is no BaseScopedAgent"):
        await harness.load_anchor("T-1")


@pytest.mark.parametrize(
    ("method", "returned", "problem"),
    [("load_anchor", None, "must return a dict"), ("build_scope_rules", 1, "must return text")],
)
async def test_an_anchor_of_another_kind_is_refused(
    make_plugin: MakePlugin, ticket_plugin: type[BasePlugin], method: str, returned: Any, problem: str
) -> None:
    async def load_anchor(self: Any, resource_id: str) -> Any:
        return returned

    wrong = load_anchor if method == "load_anchor" else lambda self, context: returned
    agent = type("Wrong", (type(ticket_plugin.create_agent()),), {method: wrong})
    harness = PluginHarness(make_plugin(agent))

    async def ask() -> None:
        if method == "load_anchor":
            await harness.load_anchor("T-1")
        harness.build_scope_rules({})

    with pytest.raises(PluginRefused, match=problem):
        await ask()


def test_what_an_upload_would_refuse_is_refused_with_all_reasons(make_plugin: MakePlugin) -> None:
    with pytest.raises(PluginRefused, match="does not satisfy"):
        PluginHarness(make_plugin(sdk_version=">=9"))
    with pytest.raises(PluginRefused, match="must return a BaseAgent, it returned str"):
        PluginHarness(make_plugin(lambda: "no agent"))
    with pytest.raises(PluginRefused, match="must be a UvTool"):
        PluginHarness(make_plugin(type("A", (BaseAgent,), {"get_tools": lambda self: ["x"]})))


PLUGIN = """
from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, uvtool
import tides_of_{name}
from .tides_of_{name} import HIGH
from .base import Base

@uvtool
def height() -> int:
    return HIGH + tides_of_{name}.HIGH

class Agent(BaseAgent):
    def get_tools(self):
        return [height]

class Tides(Base):
    @staticmethod
    def get_metadata():
        return PluginMetadata(pid="com.test.{name}", name="Tides", version="1.0", description="d")

    @staticmethod
    def create_agent():
        return Agent()
"""


async def test_a_folder_is_loaded_with_the_modules_beside_it(tmp_path: Path) -> None:
    for number, name in enumerate(("north", "south"), start=1):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "plugin.py").write_text(PLUGIN.replace("{name}", name))
        (folder / f"tides_of_{name}.py").write_text(f"HIGH = {number}\n")
        (folder / "base.py").write_text("from cadence_sdk import BasePlugin\nclass Base(BasePlugin): pass\n")

    north, south = (PluginHarness(load_plugin(tmp_path / name)) for name in ("north", "south"))

    assert (await north.call("height"), await south.call("height")) == (2, 4)
    assert (north.metadata.pid, south.metadata.pid) == ("com.test.north", "com.test.south")


def test_a_folder_without_a_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginRefused, match=r"there is no plugin.py"):
        load_plugin(tmp_path)
    (tmp_path / "plugin.py").write_text("from cadence_sdk import BasePlugin\n")
    with pytest.raises(PluginRefused, match="no concrete subclass"):
        load_plugin(tmp_path)
