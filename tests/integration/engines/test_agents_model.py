"""The Agents SDK's face of the model client: any agent can use it, run whole or streamed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, AgentOutputSchema, ModelSettings, RunConfig, Runner, function_tool, handoff
from agents.exceptions import ModelBehaviorError

from runtime_worker.engines.openai_agents.model import ClientModel
from runtime_worker.models.base import ModelClient
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelUnavailable
from shared.ids import new_id
from tests.fakes.instances import llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Raw, Stall, Text, sse, usage_of

UNTRACED = RunConfig(tracing_disabled=True)


@function_tool
def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


@pytest.fixture
def client(model_server: ModelServer, model_registry: ModelRegistry) -> ModelClient:
    return model_registry.acquire(llm_config_snapshot(model_server.base_url), "m", new_id())


@pytest.fixture
def agent(client: ModelClient) -> Callable[..., Agent[Any]]:
    def build(name: str = "helper", **options: Any) -> Agent[Any]:
        model = ClientModel(client.complete, name=client.model_name, timeout_seconds=10)
        return Agent(name=name, model=model, **options)

    return build


async def test_an_agent_calls_its_tools_and_answers_from_their_results(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.tools(("multiply", {"a": 2, "b": 3}, "c1"), ("multiply", {"a": 4, "b": 5}, "c2"), usage=usage_of(7, 2))
    model_server.answer("6 and ", "20", usage=usage_of(20, 5, cached=7))
    settings = ModelSettings(temperature=0, max_tokens=9, tool_choice="required", parallel_tool_calls=False)
    calculator = agent(instructions="Calculate.", tools=[multiply], model_settings=settings)
    result = await Runner.run(calculator, "2*3, 4*5?", run_config=UNTRACED)
    assert result.final_output == "6 and 20"
    first, second = model_server.calls
    assert first.system == "Calculate."
    assert (first.body["temperature"], first.body["max_tokens"]) == (0, 9)
    assert (first.body["tool_choice"], first.body["parallel_tool_calls"]) == ("required", False)
    assert first.body["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    assert [m["role"] for m in second.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in second.messages[2]["tool_calls"]] == ["c1", "c2"]
    assert second.tool_results == ["6", "20"]
    usage = result.context_wrapper.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 27, 7)
    assert usage.input_tokens_details.cached_tokens == 7


async def test_a_streamed_run_gets_the_finished_message_at_once(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.answer("one ", "two", usage=usage_of(7, 2))
    result = Runner.run_streamed(agent(), "count", run_config=UNTRACED)
    raw = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    assert (raw, result.final_output) == (["response.completed"], "one two")
    assert result.context_wrapper.usage.total_tokens == 9


async def test_a_handoff_is_offered_as_a_tool_and_the_other_agent_answers(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.tools(("transfer_to_poet", {}, "c1"))
    model_server.answer("A rhyme.")
    poet = agent("poet", instructions="You write rhymes.")
    result = await Runner.run(agent(handoffs=[handoff(poet)]), "a rhyme, please", run_config=UNTRACED)
    assert (result.last_agent.name, result.final_output) == ("poet", "A rhyme.")
    offered = model_server.calls[0].body["tools"][0]["function"]
    assert (offered["name"], offered["parameters"]["type"]) == ("transfer_to_poet", "object")
    assert model_server.last.system == "You write rhymes."


async def test_an_output_type_becomes_structured_output(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.answer('{"response": [1, 2]}')
    result = await Runner.run(agent(output_type=AgentOutputSchema(list[int])), "count", run_config=UNTRACED)
    assert result.final_output == [1, 2]
    wanted = model_server.last.body["response_format"]
    assert (wanted["type"], wanted["json_schema"]["schema"]["type"]) == ("json_schema", "object")


async def test_text_that_is_not_the_structure_asked_for_is_the_models_fault(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.answer("one, two")
    with pytest.raises(ModelBehaviorError):
        await Runner.run(agent(output_type=AgentOutputSchema(list[int])), "count", run_config=UNTRACED)


async def test_a_client_error_comes_out_of_a_run_as_it_is(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.step(Text("half"), Raw(sse({"error": {"code": 500}})))
    with pytest.raises(ModelUnavailable):
        await Runner.run(agent(), "go", run_config=UNTRACED)


async def test_cancelling_a_run_hangs_up_on_the_model(
    agent: Callable[..., Agent[Any]], model_server: ModelServer
) -> None:
    model_server.step(Text("first"), Stall())
    running = asyncio.create_task(Runner.run(agent(), "go", run_config=UNTRACED))
    await model_server.wait_for_calls(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        await model_server.last.hung_up.wait()
