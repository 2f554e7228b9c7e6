"""A scripted model server that costs next to nothing: one uvloop protocol per connection, bytes prepared once.

What it answers depends on the request alone. A request for structured output gets the decision that leads to an answer
the shortest way, one that offers a tool whose name holds `conversational` a call of it. Else a model named
`bench-t200-d5` streams 200 tokens, 5 ms apart, each in a write of its own, and any other says that it is done.

    python -m tests.benchmarks.model PORT
"""

import asyncio
import re
import sys
from typing import Any

import msgspec
import uvloop

_MODEL = re.compile(r"bench-t(\d+)-d(\d+(?:\.\d+)?)")
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)
_HEALTH = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok"
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.I)


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Schema(msgspec.Struct):
    properties: dict[str, Any] = {}


class _NamedSchema(msgspec.Struct):
    schema: _Schema


class _ResponseFormat(msgspec.Struct):
    json_schema: _NamedSchema | None = None


class _Request(msgspec.Struct):
    model: str
    tools: list[_Tool] | None = None
    response_format: _ResponseFormat | None = None


_decoder = msgspec.json.Decoder(_Request)


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices}
    payload = b"data: " + msgspec.json.encode(body | more) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "finish_reason": finish_reason}])


_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_ROLE = _delta({"role": "assistant", "content": ""})
_TOKEN = _delta({"content": "lorem "})
_STOP = _delta({}, "stop")


def _usage(tokens: int) -> bytes:
    return _event([], usage={"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens})


def _text(content: str) -> bytes:
    return _HEAD + _ROLE + _delta({"content": content}) + _STOP + _usage(5) + _DONE


_DECISIONS = {
    "next": _text('{"next":"finish","task":""}'),
    "in_scope": _text('{"in_scope":true,"reason":""}'),
    "is_valid": _text('{"is_valid":true,"reasons":[]}'),
}
_NOTHING_TO_DO = _text("DONE")


def _call(name: str) -> bytes:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return (_HEAD + _delta({"role": "assistant", "content": None, "tool_calls": [call]}) + _delta({}, "tool_calls")) + (
        _usage(5) + _DONE
    )


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests come one after the other, never pipelined."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a writable transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        if head.startswith(b"GET"):
            self._write(_HEALTH)
        else:
            self._answer(_decoder.decode(body))

    def _answer(self, request: _Request) -> None:
        if request.response_format and (named := request.response_format.json_schema):
            self._write(next((_DECISIONS[key] for key in named.schema.properties if key in _DECISIONS), _NOTHING_TO_DO))
            return
        signals = [tool.function.name for tool in request.tools or () if "conversational" in tool.function.name]
        if signals:
            self._write(_call(signals[0]))
            return
        match = _MODEL.search(request.model)
        if match is None:
            self._write(_NOTHING_TO_DO)
            return
        tokens, gap_seconds = int(match[1]), float(match[2]) / 1000
        self._write(_HEAD + _ROLE)
        self._token(1, tokens, gap_seconds, self._loop.time())

    def _token(self, number: int, tokens: int, gap_seconds: float, due: float) -> None:
        if number < tokens:
            self._write(_TOKEN)
            # Due times come from the first token, so that one late token does not delay all that follow.
            due += gap_seconds
            self._timer = self._loop.call_at(due, self._token, number + 1, tokens, gap_seconds, due)
        else:
            self._write(_TOKEN + _STOP + _usage(tokens) + _DONE)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(loop), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
