"""The same streams, read by our clients and by the vendors' own; the same requests, written by both."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from openai import AsyncAzureOpenAI
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from runtime_worker.models.base import ModelClient, ModelMessage, ModelToolCall
from shared.frameworks import Provider
from tests.fakes.model_server import ModelServer
from tests.integration.models.asking import ADD, VERDICT, request
from tests.integration.models.vendor_sdks import (
    Found,
    gemini_client,
    read_with_anthropic,
    read_with_gemini,
    read_with_openai,
)

# One process loads what only these tests need.
pytestmark = pytest.mark.xdist_group("vendors")

RECORDINGS = Path(__file__).parent / "recordings"
SDKS = {
    Provider.OPENAI: read_with_openai,
    Provider.ANTHROPIC: read_with_anthropic,
    Provider.GEMINI: read_with_gemini,
}
OUR_WORD = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "content_filter",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
}
EXCHANGE = (
    ModelMessage("system", "be nice"),
    ModelMessage("user", "1 + 1?"),
    ModelMessage("assistant", "Well.", (ModelToolCall("c1", "add", '{"a":1}'),)),
    ModelMessage("tool", "2", tool_call_id="c1"),
    ModelMessage("user", "and then?"),
)


@pytest.mark.parametrize(
    "recording",
    sorted(RECORDINGS.glob("*/*.sse")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
async def test_a_stream_says_the_same_to_us_and_to_its_vendors_client(
    connect: Callable[..., ModelClient], model_server: ModelServer, recording: Path
) -> None:
    headers = {"Content-Type": "text/event-stream"}
    model_server.step(body=recording.read_bytes(), headers=headers, times=2)
    provider = Provider(recording.parent.name)

    theirs = await SDKS[provider](model_server.base_url)
    deltas: list[str] = []
    answer = await connect(provider=provider).complete(request(tools=(ADD,)), deltas.append)

    reason = OUR_WORD.get(theirs.finish_reason, theirs.finish_reason)
    ours = Found(
        answer.content,
        [(call.id, call.name, json.loads(call.arguments)) for call in answer.tool_calls],
        # Google has no word for an answer that ends in calls.
        "stop" if reason == "stop" and answer.tool_calls else answer.finish_reason,
        (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens),
    )
    assert ours == Found(theirs.text, theirs.calls, reason, theirs.usage)
    assert "".join(deltas) == theirs.text
    assert theirs.text or theirs.calls, "the recording says something"
    assert theirs.usage != (0, 0, 0)


REQUESTS: list[dict[str, Any]] = [
    {},
    {"messages": EXCHANGE},
    {"messages": EXCHANGE, "tools": (ADD,), "parallel_tool_calls": False},
    {"messages": EXCHANGE, "tools": (ADD,), "tool_choice": "none"},
    {"tools": (ADD,), "tool_choice": "required", "max_tokens": 5},
    {"tools": (ADD,), "tool_choice": "add"},
    {"response_schema": VERDICT, "max_tokens": 100},
]


@pytest.mark.parametrize("options", REQUESTS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("provider", [Provider.OPENAI, Provider.ANTHROPIC])
async def test_a_request_is_one_that_its_vendors_types_accept_whole(
    client: ModelClient, model_server: ModelServer, provider: Provider, options: dict[str, Any]
) -> None:
    model_server.answer("x")
    await client.complete(request(**options))
    body = model_server.last.body
    # What no type knows is dropped in the reading: what the vendor has no name for would be missing here.
    assert written_out(adapter_of(provider).validate_python(body)) == body


@cache
def adapter_of(provider: Provider) -> TypeAdapter[Any]:
    if provider is Provider.OPENAI:
        return TypeAdapter(CompletionCreateParamsStreaming)
    # Two seconds, of which every process that collects this file would have its own.
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    return TypeAdapter(MessageCreateParamsStreaming)


def written_out(value: Any) -> Any:
    """pydantic reads an `Iterable` when it is asked for the next item only."""
    if isinstance(value, dict):
        return {key: written_out(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [written_out(item) for item in value]
    return value


FUNCTION = types.FunctionDeclaration(name="add", description="Add two numbers.", parameters_json_schema=ADD.parameters)
CONTENTS = [
    types.Content(role="user", parts=[types.Part(text="1 + 1?")]),
    types.Content(
        role="model",
        parts=[
            types.Part(text="Well."),
            types.Part(function_call=types.FunctionCall(id="c1", name="add", args={"a": 1})),
        ],
    ),
    types.Content(
        role="user",
        parts=[
            types.Part(function_response=types.FunctionResponse(id="c1", name="add", response={"result": "2"})),
            types.Part(text="and then?"),
        ],
    ),
]


@pytest.mark.parametrize(
    ("options", "config"),
    [
        (
            {"tools": (ADD,), "tool_choice": "add", "temperature": 0, "max_tokens": 7},
            {
                "tools": [types.Tool(function_declarations=[FUNCTION])],
                "tool_config": types.ToolConfig(
                    function_calling_config=types.FunctionCallingConfig(
                        mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["add"]
                    )
                ),
                "temperature": 0,
                "max_output_tokens": 7,
            },
        ),
        ({"response_schema": VERDICT}, {"response_mime_type": "application/json", "response_json_schema": VERDICT}),
    ],
    ids=["tools", "form"],
)
async def test_googles_client_would_have_sent_the_same_request(
    connect: Callable[..., ModelClient], model_server: ModelServer, options: dict[str, Any], config: dict[str, Any]
) -> None:
    model_server.answer("x", times=2)
    client = connect(provider=Provider.GEMINI, model="gemini-2.5-pro", top_p=0.5, seed=1, presence_penalty=0.1)
    await client.complete(request(messages=EXCHANGE, **options))

    theirs = types.GenerateContentConfig(
        system_instruction=types.Content(parts=[types.Part(text="be nice")]),
        top_p=0.5,
        seed=1,
        presence_penalty=0.1,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        **config,
    )
    async with gemini_client(model_server.base_url).aio as google:
        stream = await google.models.generate_content_stream(model="gemini-2.5-pro", contents=CONTENTS, config=theirs)
        assert [response.text async for response in stream]

    ours, reference = model_server.calls
    # Google reads both spellings; its client sends this one name in the other.
    spelled = json.dumps(reference.body).replace("parameters_json_schema", "parametersJsonSchema")
    assert ours.body == json.loads(spelled)
    assert (ours.path, ours.method) == (reference.path, reference.method)


async def test_azures_client_would_have_called_the_same_address(
    connect: Callable[..., ModelClient], model_server: ModelServer
) -> None:
    model_server.answer("x", times=2)
    root = model_server.base_url.removesuffix("/v1")
    await connect(provider=Provider.AZURE, base_url=root, model="gpt-prod", api_version="2024-10-21").complete(
        request()
    )

    sdk = AsyncAzureOpenAI(api_key="k", azure_endpoint=root, api_version="2024-10-21", max_retries=0)
    async with sdk as azure:
        messages: Any = [{"role": "user", "content": "hello"}]
        stream = await azure.chat.completions.create(
            model="gpt-prod", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in stream]

    ours, reference = model_server.calls
    assert (ours.path, ours.body) == (reference.path, reference.body)
    assert "api-key" in ours.headers.keys() & reference.headers.keys()
