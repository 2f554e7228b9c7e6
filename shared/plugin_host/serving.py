"""The loop of a plugin host: requests in, calls beside one another, answers out."""

import asyncio
import os
import socket
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from shared.packages.modules import PackageModules
from shared.plugin_host.agent import NoPluginClass, RunningAgent, start_agent
from shared.plugin_host.messages import (
    Answer,
    BadFrame,
    BuildScopeRules,
    Call,
    Cancel,
    Frames,
    Heard,
    LoadAnchor,
    NotStarted,
    Reply,
    Request,
    Start,
    Started,
    Stop,
    Told,
    ToolOutcome,
    framed,
    requests,
)
from shared.plugin_host.threads import PluginThreads
from shared.plugin_host.tools import failed, place_of

HOST_THREADS = 16


class HostServer(asyncio.Protocol):
    """One connection, which is the host's whole life: when it ends, so does the process."""

    def __init__(self) -> None:
        self._frames = Frames(requests)
        self._transport: asyncio.Transport | None = None
        self._threads = PluginThreads("plugin", HOST_THREADS, waits_for_threads=True)
        self._agent: RunningAgent | None = None
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream's protocol
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._handle(message)

    def connection_lost(self, exc: Exception | None) -> None:
        # No exit handlers and no waiting for threads: both are the plugin's, and the worker is gone.
        os._exit(0)

    def _handle(self, message: Request) -> None:
        match message:
            case Start():
                self._keep(self._start(message))
            case Call():
                self._run(message.id, self._ready.call(message.tool, message.arguments))
            case LoadAnchor():
                self._run(message.id, self._ready.load_anchor(message.resource_id, with_rules=message.with_rules))
            case BuildScopeRules():
                self._run(message.id, self._ready.build_scope_rules(message.context))
            case Cancel():
                if task := self._calls.get(message.id):
                    task.cancel()
                self._send(Heard(message.id))
            case Stop():
                self._keep(self._stop())

    @property
    def _ready(self) -> RunningAgent:
        if self._agent is None:
            raise RuntimeError("asked before it was started")
        return self._agent

    def _run(self, number: int, work: Awaitable[ToolOutcome]) -> None:
        task = asyncio.ensure_future(self._answer(number, work))
        self._calls[number] = task
        task.add_done_callback(lambda _: self._calls.pop(number, None))

    async def _answer(self, number: int, work: Awaitable[ToolOutcome]) -> None:
        try:
            outcome = await work
        except asyncio.CancelledError:
            outcome = failed("The call was cancelled.")
        try:
            self._send(Answer(number, outcome))
        except BadFrame as error:
            self._send(Answer(number, failed(f"The result cannot be used: {error}.")))

    async def _start(self, start: Start) -> None:
        modules = PackageModules(Path(start.directory), start.digest, folder=start.folder)
        try:
            self._agent = await self._threads.run(
                lambda: start_agent(modules, start.pid, start.settings, self._threads, self._tell)
            )
            self._send(Started(self._agent.tools, self._agent.system_prompt, self._agent.is_scoped))
        except NoPluginClass:
            self._send(NotStarted("", ""))
        except BaseException as error:
            # Whatever an author's module raises while it is imported, an exit included, is told like this.
            self._send(NotStarted(type(error).__name__, place_of(error)))

    async def _stop(self) -> None:
        try:
            if self._agent is not None:
                await self._agent.agent.cleanup()
        except BaseException as error:
            # The plugin is on its way out, whatever it thinks of that.
            self._tell("plugin_cleanup_failed", {"error": type(error).__name__, "place": place_of(error)})
        if self._transport is not None:
            # What was sent is flushed first; then `connection_lost` ends the process.
            self._transport.close()

    def _tell(self, event: str, fields: dict[str, str]) -> None:
        self._send(Told(event, fields))

    def _send(self, message: Reply) -> None:
        if self._transport is not None:
            self._transport.write(framed(message))

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)


async def serve(channel: socket.socket) -> None:
    """Serve until the connection ends, which ends the process."""
    await asyncio.get_running_loop().create_connection(HostServer, sock=channel)
    await asyncio.Event().wait()
