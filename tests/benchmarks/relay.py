"""The yardstick: the least that a Python server can do between a model and a client. ASGI, for Granian.

Reads OpenAI chunks with aiohttp, decodes them with msgspec, writes one small SSE event per token. No authentication, no
storage, no graph. `BENCH_MODEL_URL` names the model's `/v1`.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import msgspec

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


class _Message(msgspec.Struct):
    content: str


_chunk = msgspec.json.Decoder(_Chunk)
_encode = msgspec.json.Encoder().encode
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
_session: aiohttp.ClientSession | None = None


def _client() -> aiohttp.ClientSession:
    global _session
    if _session is None:
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    return _session


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/health":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    url = os.environ["BENCH_MODEL_URL"] + "/chat/completions"
    async with _client().post(url, data=body, headers={"Content-Type": "application/json"}) as upstream:
        buffered = b""
        async for read in upstream.content.iter_any():
            *events, buffered = (buffered + read).split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: {"):
                    continue
                for choice in _chunk.decode(event[6:]).choices:
                    if choice.delta.content:
                        out = b"event: message\ndata: " + _encode(_Message(choice.delta.content)) + b"\n\n"
                        await send({"type": "http.response.body", "body": out, "more_body": True})
    await send({"type": "http.response.body", "body": b"event: done\ndata: {}\n\n", "more_body": False})
