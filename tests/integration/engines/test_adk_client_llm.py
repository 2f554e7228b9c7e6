"""The ADK face of the model client: any agent can use it, with tools of any kind."""

from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.events.event import Event
from google.adk.runners import InMemoryRunner
from google.genai import types

from runtime_worker.engines.google_adk.client_llm import ClientLlm, calling, short_way, within
from runtime_worker.engines.google_adk.contents import from_contents, to_contents
from runtime_worker.models.base import ModelClient, ModelMessage, ModelToolCall
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelUnavailable
from shared.ids import new_id
from tests.fakes.instances import llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Raw, Text, sse, usage_of


def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


@pytest.fixture
def client(model_server: ModelServer, model_registry: ModelRegistry) -> ModelClient:
    return model_registry.acquire(llm_config_snapshot(model_server.base_url), "m", new_id())


async def run(client: ModelClient, tool_choice: str = "auto", **options: Any) -> list[Event]:
    agent = LlmAgent(
        name="helper",
        model=ClientLlm(model="m", ask=client.complete, parallel_tool_calls=False),
        instruction="Be exact.",
        generate_content_config=types.GenerateContentConfig(
            temperature=0, max_output_tokens=7, tool_config=calling(tool_choice), http_options=within(5)
        ),
        **options,
    )
    runner = InMemoryRunner(agent, app_name="test")
    session = await runner.session_service.create_session(app_name="test", user_id="u")
    message = types.Content(role="user", parts=[types.Part(text="hello")])
    return [event async for event in runner.run_async(user_id="u", session_id=session.id, new_message=message)]


async def test_an_ordinary_agent_calls_its_tool_and_answers(client: ModelClient, model_server: ModelServer) -> None:
    model_server.tools(("multiply", {"a": 2, "b": 3}, "c1"), usage=usage_of(7, 2, 1))
    model_server.answer("6")
    events = await run(client, tools=[multiply])
    assert events[-1].content is not None
    assert from_contents([events[-1].content]) == [ModelMessage("assistant", "6")]
    usage = events[0].usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.cached_content_token_count) == (7, 2, 1)
    first, second = model_server.calls
    assert first.body["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    assert (first.body["temperature"], first.body["max_tokens"]) == (0, 7)
    assert first.body["parallel_tool_calls"] is False
    assert "Be exact." in first.system
    assert [m["role"] for m in second.messages] == ["system", "user", "assistant", "tool"]
    assert second.tool_results == ['{"result": 6}']


async def test_a_schema_asks_for_structured_output(client: ModelClient, model_server: ModelServer) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    model_server.answer('{"ok": true}')
    await run(client, output_schema=schema)
    assert model_server.last.body["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize("wanted", ["none", "required"])
async def test_the_tool_choice_is_on_the_wire(client: ModelClient, model_server: ModelServer, wanted: str) -> None:
    model_server.answer("no")
    await run(client, wanted, tools=[multiply])
    assert model_server.last.body["tool_choice"] == wanted


async def test_text_takes_the_short_way_and_adk_gets_the_whole_message(
    client: ModelClient, model_server: ModelServer
) -> None:
    arrived: list[str] = []
    model_server.answer("one ", "two")
    token = short_way.set(arrived.append)
    try:
        events = await run(client)
    finally:
        short_way.reset(token)
    assert arrived == ["one ", "two"]
    assert len(events) == 1


async def test_a_model_that_breaks_raises_the_domain_error(client: ModelClient, model_server: ModelServer) -> None:
    model_server.step(Text("half"), Raw(sse({"error": {"code": 500}})))
    with pytest.raises(ModelUnavailable):
        await run(client)


def test_a_conversation_goes_through_contents_unchanged() -> None:
    calls = (
        ModelToolCall("c1", "multiply", '{"a":2,  "b":3}'),
        ModelToolCall("c2", "multiply", "{broken", "wire:sealed"),
    )
    conversation = [
        ModelMessage("user", "2*3? 🌍"),
        ModelMessage("assistant", "Let me see.", calls),
        ModelMessage("tool", "6", tool_call_id="c1"),
        ModelMessage("tool", '{"result": 1}', tool_call_id="c2"),
        ModelMessage("assistant", "It is 6."),
    ]
    assert from_contents(to_contents(conversation)) == conversation
