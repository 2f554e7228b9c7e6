"""What is LangGraph's own. What every engine promises is in `tests/contract/engine_suite.py`."""

import gc
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from langsmith.utils import get_env_var

from runtime_worker.engines.registry import shared_template_count
from shared.frameworks import Mode
from shared.ids import new_id
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import turn
from tests.fakes.model_server import ModelServer
from tests.fakes.plugin_bundle import FunctionBundle, ScopedFunctionBundle
from tests.integration.engines.conftest import Built, add


async def test_instances_of_one_shape_share_their_graph(built: Built) -> None:
    await built(Mode.SUPERVISOR)
    before = shared_template_count()
    await built(Mode.SUPERVISOR, whoami="Somebody else", max_tool_rounds=7)
    assert shared_template_count() == before


async def test_the_picture_shows_what_is_wired(built: Built) -> None:
    plain = (await built(Mode.SUPERVISOR)).mermaid()
    validated = (await built(Mode.SUPERVISOR, enabled_llm_validation=True, enabled_suggestion=True)).mermaid()
    assert "supervisor_node -.-> control_tools" in plain
    assert "validation_node" not in plain
    assert "validation_node -.-> facilitator_node" in validated
    assert "synthesizer_node -.-> suggestion_node" in validated


async def test_a_graph_of_plugin_agents_lives_as_long_as_an_instance_has_it(built: Built) -> None:
    pid = f"com.acme.n{new_id().hex}"
    before = shared_template_count()
    first = await built(Mode.HANDOFF, FunctionBundle(pid, add))
    second = await built(Mode.HANDOFF, FunctionBundle(pid, add))
    assert shared_template_count() == before + 1
    del first, second
    gc.collect()
    assert shared_template_count() <= before


async def test_every_mode_has_a_picture_of_its_own(built: Built) -> None:
    two = (FunctionBundle("com.acme.calc", add), FunctionBundle("com.acme.words"))
    coordinator = (await built(Mode.COORDINATOR, *two)).mermaid()
    assert "coordinator_node -.-> calc_agent" in coordinator
    assert "words_agent -.-> coordinator_node" in coordinator
    assert "coordinator_node -.-> suspend_node" in coordinator
    handoff = (await built(Mode.HANDOFF, *two)).mermaid()
    assert "__start__ -.-> words_agent" in handoff
    assert "words_agent -.-> calc_agent" in handoff
    assert "calc_agent -.-> calc_agent" not in handoff
    orders = ScopedFunctionBundle("com.acme.orders", add, resources={})
    assert "planner_node -.-> control_tools" in (await built(Mode.GROUNDED, orders)).mermaid()
    unchecked = (await built(Mode.GROUNDED, orders, enabled_validator=False)).mermaid()
    assert "validation_node" not in unchecked


@pytest.fixture
async def tracing_vendor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """LangSmith switched on by the environment, with an endpoint that sees who connects."""
    cached = cast("Any", get_env_var)
    async with ModelServer() as vendor:
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
        monkeypatch.setenv("LANGSMITH_API_KEY", "ls-key")
        monkeypatch.setenv("LANGSMITH_ENDPOINT", vendor.base_url)
        cached.cache_clear()
        yield vendor
    cached.cache_clear()


async def test_tracing_stays_off_whatever_the_environment_says(
    built: Built, model_server: ModelServer, tracing_vendor: ModelServer
) -> None:
    model_server.tools(("conversational", {}))
    model_server.answer("Hi")
    await (await built(Mode.SUPERVISOR)).run(turn("hi"), RecordingSink())
    assert tracing_vendor.connections == 0
