"""How the scripted model server writes a step to a connection."""

import asyncio
import json

from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import (
    EndBody,
    Gate,
    HangUp,
    Part,
    Pause,
    Raw,
    Stall,
    Step,
    Text,
    ToolCalls,
    chunk,
    sse,
    tool_call_deltas,
    whole_completion,
)


class ScriptedAnswer:
    """Writes one step to one connection."""

    def __init__(self, call: ModelCall, step: Step, writer: asyncio.StreamWriter) -> None:
        self._call, self._step, self._writer = call, step, writer
        self._model = str(call.body.get("model", ""))

    async def write(self) -> bool:
        """True when the connection can carry another call."""
        step = self._step
        if step.body is not None or step.status != 200:
            await write_plain(self._writer, step.status, dict(step.headers), step.body or b"")
            return True
        if not self._call.body.get("stream"):
            body = json.dumps(whole_completion(self._model, step), ensure_ascii=False).encode()
            await write_plain(self._writer, 200, dict(step.headers), body)
            return True
        headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **step.headers}
        self._writer.write(head_of(200, headers))
        await self._event(sse(chunk(self._model, {"role": "assistant", "content": ""})), counts=False)
        for part in step.parts:
            if not await self._part(part):
                return isinstance(part, EndBody)
        await self._event(sse(chunk(self._model, {}, step.reason())), counts=False)
        if step.usage is not None and self._call.body.get("stream_options", {}).get("include_usage"):
            last = chunk(self._model, {}) | {"choices": [], "usage": dict(step.usage)}
            await self._event(sse(last), counts=False)
        await self._event(b"data: [DONE]\n\n", counts=False)
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _part(self, part: Part) -> bool:
        """False when nothing may follow."""
        match part:
            case Text(content):
                await self._event(sse(chunk(self._model, {"content": content})))
            case ToolCalls():
                for delta in tool_call_deltas(part):
                    await self._event(sse(chunk(self._model, delta)))
            case Raw(data):
                await self._event(data)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Gate(opens):
                await opens.wait()
            case Stall():
                await asyncio.Event().wait()
            case HangUp():
                self._writer.transport.abort()
                return False
            case EndBody():
                self._writer.write(b"0\r\n\r\n")
                await self._writer.drain()
                return False
        return True

    async def _event(self, data: bytes, *, counts: bool = True) -> None:
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writer.drain()
        if counts:
            self._call.events_sent += 1


async def write_plain(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes) -> None:
    plain = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    writer.write(head_of(status, plain) + body)
    await writer.drain()


def head_of(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")
