"""A real MCP server, made with the official library, on a port of its own and in the test's loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ToolsListChanged
from starlette.types import ASGIApp, Receive, Scope, Send


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test runner's."""
        yield


class FakeMCPServer:
    """Its functions are its tools. `requests` is the headers of every request; `answer_with` makes it refuse all.

    An `is_legacy` one speaks the protocol with sessions, from before 2026. With a `certificate` (a PEM file with its
    key) it speaks TLS.
    """

    def __init__(
        self, *functions: Callable[..., Any], is_legacy: bool = False, certificate: Path | None = None
    ) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        self.changes = InMemorySubscriptionBus()
        self.mcp = MCPServer("fake", subscriptions=self.changes)
        # It configures logging for the whole process, which is not its to do here.
        root.handlers[:], root.level = handlers, level
        for function in functions:
            self.mcp.add_tool(function)
        self.requests: list[dict[str, str]] = []
        self.answer_with: int | None = None
        self.refused_methods = {"server/discover"} if is_legacy else set()
        self._certificate = certificate
        self._port = 0
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}/mcp"

    async def __aenter__(self) -> "FakeMCPServer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def offer(self, function: Callable[..., Any]) -> None:
        """One tool more, and whoever listens is told."""
        self.mcp.add_tool(function)
        await self.changes.publish(ToolsListChanged())

    async def start(self) -> None:
        """Again on the same port after a `stop`, with no memory of its sessions."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        # A session manager runs once, so each start makes a new application.
        self.mcp._lowlevel_server._session_manager = None
        config = uvicorn.Config(
            self._seen(self.mcp.streamable_http_app(host="0.0.0.0")),
            log_level="critical",
            lifespan="on",
            ssl_certfile=self._certificate,
        )
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.01)
        assert self._server.started, "the MCP server did not start"

    async def stop(self) -> None:
        """End it the hard way: streams that are open break."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = self._server.force_exit = True
        await self._serving
        self._server = self._serving = None

    def _seen(self, app: ASGIApp) -> ASGIApp:
        async def record(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            self.requests.append({name.decode(): value.decode() for name, value in scope["headers"]})
            is_refused = self.requests[-1].get("mcp-method") in self.refused_methods
            status = 400 if is_refused else self.answer_with
            if status is None:
                await app(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"secret words of the server"})

        return record
