"""The vendors' own clients, asked to read a stream over HTTP; what they found, in one form for all."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google import genai
from google.genai import types
from openai import AsyncOpenAI, ContentFilterFinishReasonError, LengthFinishReasonError
from openai.lib.streaming.chat import ChatCompletionStreamState

KEY = "sk-made-up"


@dataclass(frozen=True)
class Found:
    """Calls are `(id, name, arguments)`, the finish reason is the vendor's own word, usage is input, output, cached."""

    text: str
    calls: list[tuple[str, str, dict[str, Any]]]
    finish_reason: str
    usage: tuple[int, int, int]


async def read_with_openai(base_url: str) -> Found:
    state = ChatCompletionStreamState()
    async with AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            # It refuses to go on with an answer that is cut off, but has read it by then.
            with suppress(LengthFinishReasonError, ContentFilterFinishReasonError):
                state.handle_chunk(chunk)
    completion = state.current_completion_snapshot
    choice, usage = completion.choices[0], completion.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or []
    ]
    cached = usage.prompt_tokens_details.cached_tokens or 0
    return Found(
        choice.message.content or "",
        calls,
        choice.finish_reason,
        (usage.prompt_tokens, usage.completion_tokens, cached),
    )


async def read_with_anthropic(base_url: str) -> Found:
    # Only where it is asked: no other package that is here brings it along, and it takes two seconds.
    from anthropic import AsyncAnthropic
    from anthropic.types import TextBlock, ToolUseBlock

    root = base_url.removesuffix("/v1")
    async with AsyncAnthropic(api_key=KEY, base_url=root, max_retries=0) as client:
        asking = client.messages.stream(model="m", max_tokens=100, messages=[{"role": "user", "content": "hello"}])
        async with asking as stream:
            message = await stream.get_final_message()
    usage = message.usage
    cached = usage.cache_read_input_tokens or 0
    return Found(
        "".join(block.text for block in message.content if isinstance(block, TextBlock)),
        [(block.id, block.name, dict(block.input)) for block in message.content if isinstance(block, ToolUseBlock)],
        str(message.stop_reason),
        # "Total input tokens in a request is the summation" of the three, as the SDK's documentation has it.
        (usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0), usage.output_tokens, cached),
    )


def gemini_client(base_url: str) -> genai.Client:
    root, _, version = base_url.rpartition("/")
    return genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=root, api_version=version))


async def read_with_gemini(base_url: str) -> Found:
    text, finish_reason, usage = "", "", types.GenerateContentResponseUsageMetadata()
    calls: list[tuple[str, str, dict[str, Any]]] = []
    async with gemini_client(base_url).aio as client:
        async for response in await client.models.generate_content_stream(model="m", contents="hello"):
            candidate = (response.candidates or [types.Candidate()])[0]
            for part in (candidate.content and candidate.content.parts) or []:
                if part.function_call is not None:
                    call = part.function_call
                    calls.append((call.id or "", call.name or "", call.args or {}))
                elif part.text and not part.thought:
                    text += part.text
            finish_reason = candidate.finish_reason.value if candidate.finish_reason else finish_reason
            usage = response.usage_metadata or usage
    written = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return Found(
        text, calls, finish_reason, (usage.prompt_token_count or 0, written, usage.cached_content_token_count or 0)
    )
