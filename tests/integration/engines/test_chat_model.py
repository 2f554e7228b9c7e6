"""The LangChain face of the model client: any graph can use it, at the framework's own price."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool

from runtime_worker.engines.base import ModelChoice
from runtime_worker.engines.langgraph.chat_model import ClientChatModel
from runtime_worker.models.registry import ModelRegistry
from shared.errors import ModelUnavailable
from shared.frameworks import Provider
from shared.ids import new_id
from tests.fakes.instances import llm_config_snapshot
from tests.fakes.model_server import ModelServer
from tests.fakes.model_steps import Raw, Stall, Text, sse, usage_of

HELLO = [HumanMessage("hello")]


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two integers."""
    return a * b


@pytest.fixture
def chat(model_server: ModelServer, model_registry: ModelRegistry) -> ClientChatModel:
    client = model_registry.acquire(llm_config_snapshot(model_server.base_url), "m", new_id())
    return ClientChatModel.of(ModelChoice(client, Provider.OPENAI, temperature=0.0, max_tokens=None))


async def test_a_langchain_tool_is_offered_and_its_call_comes_back_parsed(
    chat: ClientChatModel, model_server: ModelServer
) -> None:
    model_server.tools(("multiply", {"a": 2, "b": 3}, "c1"), ("multiply", "{broken", "c2"), usage=usage_of(7, 2, 1))
    message = await chat.bind_tools([multiply], tool_choice="any").ainvoke(HELLO)
    assert message.tool_calls == [{"name": "multiply", "args": {"a": 2, "b": 3}, "id": "c1", "type": "tool_call"}]
    assert [(call["id"], call["args"]) for call in message.invalid_tool_calls] == [("c2", "{broken")]
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (7, 2)
    body = model_server.last.body
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
    assert body["temperature"] == 0


async def test_streaming_gives_chunks_that_add_up_to_the_message(
    chat: ClientChatModel, model_server: ModelServer
) -> None:
    model_server.answer("one ", "two", usage=usage_of(7, 2))
    chunks = [chunk async for chunk in chat.astream(HELLO)]
    assert [str(chunk.text) for chunk in chunks if chunk.text] == ["one ", "two"]
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 9


async def test_streamed_tool_calls_add_up_too(chat: ClientChatModel, model_server: ModelServer) -> None:
    model_server.tools(("multiply", {"a": 2, "b": 3}), ("multiply", {"a": 4, "b": 5}))
    chunks: list[Any] = [chunk async for chunk in chat.bind_tools([multiply]).astream(HELLO)]
    whole = sum(chunks[1:], chunks[0])
    assert [call["args"] for call in whole.tool_calls] == [{"a": 2, "b": 3}, {"a": 4, "b": 5}]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_what_a_provider_wants_to_see_again_with_a_call_is_carried_along(
    model_server: ModelServer, model_registry: ModelRegistry, is_streamed: bool
) -> None:
    config = llm_config_snapshot(model_server.base_url, provider=Provider.GEMINI)
    client = model_registry.acquire(config, "gemini-3-pro", new_id())
    chat = ClientChatModel.of(ModelChoice(client, Provider.GEMINI, temperature=None, max_tokens=None))
    model_server.tools(("multiply", {"a": 2, "b": 3}, "c1"))
    model_server.answer("6")
    message: Any
    if is_streamed:
        chunks: list[Any] = [chunk async for chunk in chat.bind_tools([multiply]).astream(HELLO)]
        message = sum(chunks[1:], chunks[0])
    else:
        message = await chat.bind_tools([multiply]).ainvoke(HELLO)
    await chat.ainvoke([*HELLO, message, ToolMessage("6", tool_call_id="c1")])
    (part,) = model_server.last.body["contents"][1]["parts"]
    assert part["thoughtSignature"] == "c2lnbmVk"


async def test_who_stops_reading_a_stream_stops_the_model(chat: ClientChatModel, model_server: ModelServer) -> None:
    model_server.step(Text("first"), Stall())
    stream = chat.astream(HELLO)
    assert str((await anext(stream)).text) == "first"
    await stream.aclose()  # type: ignore[attr-defined]  # LangChain says iterator and returns a generator.
    async with asyncio.timeout(5):
        await model_server.last.hung_up.wait()


async def test_a_stream_that_breaks_raises_after_what_arrived(chat: ClientChatModel, model_server: ModelServer) -> None:
    model_server.step(Text("half"), Raw(sse({"error": {"code": 500}})))
    stream = chat.astream(HELLO)
    assert str((await anext(stream)).text) == "half"
    with pytest.raises(ModelUnavailable):
        await anext(stream)
