"""An instance whose model does not answer, and which has another."""

from collections.abc import AsyncIterator

import pytest

from runtime_worker.engines.base import Orchestrator
from runtime_worker.models.base import Usage
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Provider
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import usage_of
from tests.fakes.plugin_bundle import FunctionBundle


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@pytest.fixture
async def second_server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server
        server.assert_done()


@pytest.fixture
async def orchestrator(
    model_server: ModelServer, second_server: ModelServer, model_registry: ModelRegistry
) -> Orchestrator:
    own = llm_config_snapshot(model_server.base_url, model_name="own", max_retries=0)
    other = llm_config_snapshot(second_server.base_url, model_name="other", provider=Provider.GEMINI, max_retries=0)
    return await build(
        model_registry,
        instance_snapshot(own, other, fallback_llm_config_id=str(other.id), default_temperature=0),
        [FunctionBundle("com.acme.calc", add)],
    )


async def test_each_call_is_answered_by_whichever_model_can_and_counted_as_its_own(
    orchestrator: Orchestrator, model_server: ModelServer, second_server: ModelServer
) -> None:
    model_server.tools(("add", {"a": 1, "b": 1}), usage=usage_of(10, 1))
    model_server.fail(503, times=2)
    second_server.answer("DONE", usage=usage_of(20, 2))
    second_server.answer("It is", " 2.", usage=usage_of(30, 3))

    sink = RecordingSink()
    result = await orchestrator.run(turn("1 + 1?"), sink)

    assert (result.answer, result.error_code) == ("It is 2.", None)
    assert [(call.provider, call.model_name, call.usage) for call in result.calls] == [
        (Provider.OPENAI, "own", Usage(10, 1)),
        (Provider.GEMINI, "other", Usage(20, 2)),
        (Provider.GEMINI, "other", Usage(30, 3)),
    ]
    assert second_server.last.tool_results == ["2"]
    assert second_server.last.body["generationConfig"]["temperature"] == 0
