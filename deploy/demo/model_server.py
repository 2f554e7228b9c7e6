"""The demo model: an OpenAI-compatible chat completions server that needs no key and no network.

    python -m deploy.demo.model_server --port 9001

It is honest about what it is: rules, not a language model. Any plugin's tools work with it, since it reads names,
descriptions and schemas as they are offered.
"""

import argparse
import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from deploy.demo.model.reply import Reply, pieces_of, reply_to
from deploy.demo.model.wire import ChatRequest

MODEL = "cadence-demo"
CREATED = 1_767_225_600
"""A fixed time, so that equal requests get equal bytes."""
MAX_BODY_BYTES = 8 * 1024 * 1024
WORD_SECONDS = 0.012
"""A pause between streamed words, so that a person sees the stream."""
_WORD_SECONDS_KEY: web.AppKey[float] = web.AppKey("word_seconds", float)


def create_app(word_seconds: float = WORD_SECONDS) -> web.Application:
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_WORD_SECONDS_KEY] = word_seconds
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_post("/v1/chat/completions", _complete)
    return app


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _models(_: web.Request) -> web.Response:
    model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "cadence"}
    return web.json_response({"object": "list", "data": [model]})


async def _complete(http: web.Request) -> web.StreamResponse:
    try:
        request = msgspec.json.decode(await http.read(), type=ChatRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _refusal(f"The request cannot be read: {error}")
    if not request.messages:
        return _refusal("messages must not be empty")
    reply = reply_to(request)
    if not request.stream:
        return web.json_response(_completion(request, reply))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(http)
    pause_seconds = http.app[_WORD_SECONDS_KEY]
    for chunk in _chunks(request, reply):
        await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        is_word = any(choice["delta"].get("content") for choice in chunk["choices"])
        if is_word and pause_seconds:
            await asyncio.sleep(pause_seconds)
    await response.write(b"data: [DONE]\n\n")
    return response


def _refusal(message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=400)


def _completion(request: ChatRequest, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.content if reply.content else None}
    if reply.tool_calls:
        message["tool_calls"] = msgspec.to_builtins(reply.tool_calls)
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
    return _envelope(request, "chat.completion") | {"choices": [choice], "usage": _usage(reply)}


def _chunks(request: ChatRequest, reply: Reply) -> Iterator[dict[str, Any]]:
    envelope = _envelope(request, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return envelope | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    yield chunk({"role": "assistant", "content": "" if reply.content else None})
    for piece in pieces_of(reply.content):
        yield chunk({"content": piece})
    for index, call in enumerate(reply.tool_calls):
        # The name first, then the arguments in two parts, as the large vendors do it.
        head = {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": ""},
        }
        yield chunk({"tool_calls": [head]})
        text = call.function.arguments
        for part in filter(None, (text[: len(text) // 2], text[len(text) // 2 :])):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, reply.finish_reason)
    if request.stream_options and request.stream_options.include_usage:
        yield envelope | {"choices": [], "usage": _usage(reply)}


def _envelope(request: ChatRequest, kind: str) -> dict[str, Any]:
    digest = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
    return {"id": f"chatcmpl-{digest[:24]}", "object": kind, "created": CREATED, "model": request.model}


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.model_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    options = parser.parse_args()
    web.run_app(create_app(), host=options.host, port=options.port, print=None, access_log=None, shutdown_timeout=2)


if __name__ == "__main__":
    main()
