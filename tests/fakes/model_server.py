"""A scripted model server that speaks every provider's wire: real HTTP on an ephemeral port, strict about what it was
told to expect.

    async with ModelServer() as server:
        server.tools(("add", {"a": 1, "b": 2}))
        server.answer("The sum", " is 3.")
        ...                                   # use server.base_url
        server.assert_done()

Each call takes the first open step that accepts it (`when=`; a step without accepts any). A call nothing was scripted
for, and a step nobody asked for, fail `assert_done`. The path of a call says in which wire format it is answered
(`model_dialect`), so the same `base_url` serves a client of any provider.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Self

from tests.fakes.model_answer import ScriptedAnswer, write_plain
from tests.fakes.model_call import ModelCall
from tests.fakes.model_steps import Matcher, Part, Step, Text, ToolCalls

__all__ = ["ModelCall", "ModelServer", "asked", "both", "system_has"]


class ModelServer:
    """See the module. `calls` are the requests in order of arrival; `connections` counts accepted sockets."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []
        self.unexpected: list[ModelCall] = []
        self.connections = 0
        self._steps: list[Step] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    # --- scripting ---

    def step(self, *parts: Part, **options: Any) -> Step:
        """Any parts in any order; options are the fields of `Step`."""
        step = Step(parts=parts, **options)
        self._steps.append(step)
        return step

    def answer(self, *chunks: str, **options: Any) -> Step:
        """A plain text answer, one delta per chunk."""
        return self.step(*(Text(content) for content in chunks), **options)

    def tools(self, *calls: tuple[Any, ...], **options: Any) -> Step:
        """An answer that calls tools: `("add", {"a": 1})` or `("add", {"a": 1}, "call_7")`."""
        return self.step(ToolCalls(calls), **options)

    def fail(self, status: int, *, retry_after: str | None = None, message: str = "scripted", **options: Any) -> Step:
        """An HTTP error before anything is streamed."""
        headers = {"Retry-After": retry_after} if retry_after is not None else {}
        body = json.dumps({"error": {"message": message, "type": "scripted"}}).encode()
        return self.step(status=status, headers=headers, body=body, **options)

    # --- what the test looks at ---

    @property
    def base_url(self) -> str:
        assert self._server is not None, "not started"
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/v1"

    @property
    def last(self) -> ModelCall:
        return self.calls[-1]

    async def wait_for_calls(self, count: int, *, timeout_seconds: float = 10) -> list[ModelCall]:
        """Return once at least `count` requests have arrived."""
        async with asyncio.timeout(timeout_seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    def assert_done(self) -> None:
        """Every scripted step was served and nothing else was asked."""
        problems = [f"unexpected call {i}: {_brief(call)}" for i, call in enumerate(self.unexpected, start=1)]
        problems += [
            f"step {i} {step.label or step.parts!r} was served {step.served} of {step.times} times"
            for i, step in enumerate(self._steps, start=1)
            if step.is_unconsumed
        ]
        assert not problems, "\n".join(problems)

    def forget(self) -> None:
        """Drop the script and the record."""
        self._steps.clear()
        self.calls.clear()
        self.unexpected.clear()

    # --- life ---

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while call := await _read_call(reader, number):
                await self._record(call)
                if not await self._serve(call, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _record(self, call: ModelCall) -> None:
        async with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()

    def _take(self, call: ModelCall) -> Step | None:
        for step in self._steps:
            if step.is_open and (step.when is None or step.when(call)):
                step.served += 1
                return step
        return None

    async def _serve(self, call: ModelCall, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one call; False when the connection is over. What can be read meanwhile is only its end."""
        step = self._take(call)
        if step is None:
            self.unexpected.append(call)
            await write_plain(writer, 400, {}, b'{"error":{"message":"the script has no step for this call"}}')
            return True
        answering = asyncio.ensure_future(ScriptedAnswer(call, step, writer).write())
        watching = asyncio.ensure_future(_until_peer_is_gone(reader))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not answering.done():
                call.hung_up.set()
                return False
            return await answering
        except ConnectionError:
            call.hung_up.set()
            return False
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)
            call.answered.set()


def system_has(text: str) -> Matcher:
    """Accepts a call whose system prompt contains `text`."""
    return lambda call: text in call.system


def asked(text: str) -> Matcher:
    """Accepts a call whose last user message contains `text`."""
    return lambda call: text in call.last_user


def both(*matchers: Callable[[ModelCall], bool]) -> Matcher:
    return lambda call: all(matcher(call) for matcher in matchers)


async def _read_call(reader: asyncio.StreamReader, connection: int) -> ModelCall | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    body: dict[str, Any] = json.loads(raw) if raw else {}
    return ModelCall(method, path, headers, body, connection)


async def _until_peer_is_gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


def _brief(call: ModelCall) -> str:
    last = call.messages[-1] if call.messages else {}
    return f"{call.method} {call.path} system={call.system[:80]!r} last={str(last)[:200]}"
