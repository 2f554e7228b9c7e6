"""How the scripted model server writes a step to a connection."""

import asyncio
import json

from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import (
    CutText,
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
)


class ScriptedAnswer:
    """Writes one step to one connection."""

    def __init__(self, call: ModelCall, step: Step, writer: asyncio.StreamWriter) -> None:
        self._call, self._step, self._writer = call, step, writer
        self._dialect = call.dialect

    async def write(self) -> bool:
        """True when the connection can carry another call."""
        step = self._step
        if step.body is not None or step.status != 200:
            await write_plain(self._writer, step.status, dict(step.headers), step.body or b"")
            return True
        if not self._dialect.is_stream:
            body = json.dumps(self._dialect.whole(step), ensure_ascii=False).encode()
            await write_plain(self._writer, 200, dict(step.headers), body)
            return True
        headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **step.headers}
        self._writer.write(head_of(200, headers))
        if opening := self._dialect.opening(step):
            await self._event(opening, counts=False)
        for part in step.parts:
            if not await self._part(part):
                return isinstance(part, EndBody)
        for event in self._dialect.ending(step):
            await self._event(event, counts=False)
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    async def _part(self, part: Part) -> bool:
        """False when nothing may follow."""
        match part:
            case Text(content):
                await self._event(self._dialect.text(content))
            case CutText(content, at_byte):
                event = self._dialect.text(content)
                at = event.index(content.encode()) + at_byte
                await self._event(event[:at])
                await self._event(event[at:])
            case ToolCalls():
                for event in self._dialect.tool_calls(part):
                    await self._event(event)
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
