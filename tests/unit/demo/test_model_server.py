"""The demo model over real HTTP, as a client of the OpenAI wire format sees it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from deploy.demo.model_server import create_app

TOOL = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Calculate an expression.",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    async with TestServer(create_app(word_seconds=0.0)) as server:
        yield str(server.make_url("/v1"))


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def streamed(client: aiohttp.ClientSession, base_url: str, **body: Any) -> list[dict[str, Any]]:
    body = {"model": "cadence-demo", "stream": True, "stream_options": {"include_usage": True}, **body}
    async with client.post(f"{base_url}/chat/completions", json=body) as response:
        assert response.content_type == "text/event-stream"
        lines = [line for line in (await response.text()).split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def test_a_streamed_answer_is_the_same_as_a_whole_one(client: aiohttp.ClientSession, base_url: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]
    chunks = await streamed(client, base_url, messages=messages)
    body = {"model": "cadence-demo", "messages": messages}
    async with client.post(f"{base_url}/chat/completions", json=body) as response:
        whole = await response.json()

    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_streamed_tool_call_arguments_join_to_json(client: aiohttp.ClientSession, base_url: str) -> None:
    messages = [{"role": "user", "content": "What is 6 * 7?"}]
    chunks = await streamed(client, base_url, messages=messages, tools=[TOOL])

    deltas = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in chunks
        if c["choices"] and "tool_calls" in c["choices"][0]["delta"]
    ]
    assert deltas[0]["function"]["name"] == "calculate"
    assert deltas[0]["id"]
    assert json.loads("".join(d["function"]["arguments"] for d in deltas)) == {"expression": "6 * 7"}
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_usage_is_not_sent_unless_it_was_asked_for(client: aiohttp.ClientSession, base_url: str) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    chunks = await streamed(client, base_url, messages=messages, stream_options=None)

    assert all(chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("body", [b"{", b'{"messages": []}', b'{"messages": [{"role": "pirate"}]}', b"[]", b"\xff"])
async def test_a_request_that_cannot_be_read_is_a_400_in_words(
    client: aiohttp.ClientSession, base_url: str, body: bytes
) -> None:
    async with client.post(f"{base_url}/chat/completions", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_it_lists_its_model(client: aiohttp.ClientSession, base_url: str) -> None:
    async with client.get(f"{base_url}/models") as response:
        assert [m["id"] for m in (await response.json())["data"]] == ["cadence-demo"]


async def test_fifty_streams_at_once_do_not_mix(client: aiohttp.ClientSession, base_url: str) -> None:
    async def one(number: int) -> str:
        messages = [{"role": "user", "content": f"My name is Ada{number}"}]
        chunks = await streamed(client, base_url, messages=messages)
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])

    answers = await asyncio.gather(*(one(n) for n in range(50)))

    assert all(f"Ada{n}!" in answer for n, answer in enumerate(answers))
