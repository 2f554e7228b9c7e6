"""The demo model gets every mode to a sensible answer with plugins as they come."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestServer

from deploy.demo.model_server import create_app
from runtime_worker.engines.base import Orchestrator
from runtime_worker.models.registry import ModelRegistry
from shared.frameworks import Mode
from tests.fakes.event_sink import RecordingSink
from tests.fakes.instances import build, instance_snapshot, llm_config_snapshot, turn
from tests.fakes.plugin_bundle import FunctionBundle, ScopedFunctionBundle

CALC, WEATHER = "com.acme.calc", "com.acme.weather"


def calculate(expression: str) -> str:
    """Calculate the value of an arithmetic expression."""
    return f"{expression} = 42"


def forecast(city: str) -> str:
    """The weather forecast of a city."""
    return f"Sunny in {city}"


@pytest.fixture
async def demo_url() -> AsyncIterator[str]:
    async with TestServer(create_app(word_seconds=0)) as server:
        yield str(server.make_url("/v1"))


async def made(mode: Mode, registry: ModelRegistry, demo_url: str, *bundles: FunctionBundle) -> Orchestrator:
    snapshot = instance_snapshot(llm_config_snapshot(demo_url), mode=mode, whoami="You are Ada.")
    return await build(registry, snapshot, bundles)


def plugins() -> tuple[FunctionBundle, FunctionBundle]:
    return (
        FunctionBundle(WEATHER, forecast, description="Tells the weather forecast."),
        FunctionBundle(CALC, calculate, description="Calculates arithmetic expressions."),
    )


@pytest.mark.parametrize("mode", [Mode.SUPERVISOR, Mode.COORDINATOR, Mode.HANDOFF])
async def test_what_a_plugin_can_do_is_done(mode: Mode, model_registry: ModelRegistry, demo_url: str) -> None:
    weather, calc = plugins()
    sink = RecordingSink()
    orchestrator = await made(mode, model_registry, demo_url, weather, calc)
    result = await orchestrator.run(turn("Please calculate 6 * 7"), sink)
    assert "6 * 7 = 42" in result.answer
    assert (len(calc.calls), weather.calls, result.error_code) == (1, [], None)


@pytest.mark.parametrize("mode", [Mode.SUPERVISOR, Mode.COORDINATOR, Mode.HANDOFF])
async def test_small_talk_is_answered_without_tools(mode: Mode, model_registry: ModelRegistry, demo_url: str) -> None:
    sink = RecordingSink()
    result = await (await made(mode, model_registry, demo_url, *plugins())).run(turn("Hello!"), sink)
    assert result.answer == "Hello! What can I do for you?"
    assert sink.of("tool_start") == []


async def test_agents_are_sent_one_after_the_other(model_registry: ModelRegistry, demo_url: str) -> None:
    sink = RecordingSink()
    orchestrator = await made(Mode.COORDINATOR, model_registry, demo_url, *plugins())
    result = await orchestrator.run(turn("What is the weather in Rome? Calculate 6 * 7."), sink)
    assert result.agent_hops == 2
    assert "Sunny in Rome" in result.answer
    assert "6 * 7 = 42" in result.answer


async def test_a_resource_is_talked_about(model_registry: ModelRegistry, demo_url: str) -> None:
    order = {"name": "Order 7", "colour": "red", "price": 12}
    bundle = ScopedFunctionBundle("com.acme.orders", calculate, resources={"7": order})
    orchestrator = await made(Mode.GROUNDED, model_registry, demo_url, bundle)
    result = await orchestrator.run(turn("Which colour is it?", resource_id="7"), RecordingSink())
    assert (result.answer, result.error_code) == ("colour: red.", None)
