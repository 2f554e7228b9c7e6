"""What an instance that cannot work says when it is built, and what it does when its plugins change under it."""

import pytest

from runtime_worker.plugins.base import PluginTool
from shared.errors import OrchestratorBuildFailed
from shared.frameworks import Mode
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import turn
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle, ScopedFunctionBundle
from tests.integration.engines.conftest import Built, add


async def test_an_entry_agent_that_is_no_plugin_is_said(built: Built) -> None:
    with pytest.raises(OrchestratorBuildFailed, match=r"com\.acme\.gone"):
        await built(Mode.HANDOFF, entry_agent="com.acme.gone")


@pytest.mark.parametrize(
    "bundles",
    [
        (FunctionBundle("com.acme.calc", add),),
        (ScopedFunctionBundle("com.acme.a", resources={}), ScopedFunctionBundle("com.acme.b", resources={})),
    ],
    ids=["not scoped", "two"],
)
async def test_anything_but_one_scoped_plugin_is_no_grounded_instance(
    built: Built, bundles: tuple[FunctionBundle, ...]
) -> None:
    with pytest.raises(OrchestratorBuildFailed, match="exactly one plugin"):
        await built(Mode.GROUNDED, *bundles)


async def test_tools_that_change_after_the_build_are_offered_from_the_next_turn_on(
    built: Built, model_server: ModelServer
) -> None:
    bundle = FunctionBundle("com.acme.calc", add)
    orchestrator = await built(Mode.HANDOFF, bundle)
    bundle.tools = (*bundle.tools, PluginTool("com.acme.calc", "subtract", "Subtract.", {}))
    model_server.answer("Hi")
    await orchestrator.run(turn("hi"), RecordingSink())
    assert model_server.last.tool_names == ["add", "subtract"]
